//! Rules for calls that come in, as a file has them.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::call::Reject;
use crate::sip::digest::Algorithm;

fn parse(trunk: &str) -> Result<Trunk, String> {
    let text = format!("state = \"s\"\n[agents.echo]\nkind = \"echo\"\n[trunks.t]\nsbc_ip = \"192.0.2.1\"\n{trunk}");
    let config = Config::from_toml(&text, Path::new("/etc"), std::iter::empty())?;
    Ok(config.trunks["t"].clone())
}

const WHOLE: &str = r#"
org = "org_a"
reject_audio_file = "closed.wav"
inbound_webhook_url = "https://example.com/calls"
inbound_acl = ["203.0.113.0/24", "2001:db8::1"]
inbound_username = "pbx"
inbound_password = "p4ss5551234"
inbound_digest = ["MD5"]
[[trunks.t.inbound]]
number = "+1555000*"
rule = "HANDLE_AI"
agent = "echo"
max_duration_sec = 60
[[trunks.t.inbound]]
number = "10?"
rule = "reject"
reason = "busy"
org = "org_b"
[[trunks.t.inbound]]
number = "+49*"
rule = "PLAY_AND_HANGUP"
[[trunks.t.inbound]]
rule = "NOTIFY_AND_HANGUP"
ring_timeout_sec = 12
"#;

#[test]
fn a_whole_table_and_the_first_rule_that_fits() {
    let trunk = parse(WHOLE).unwrap();
    let inbound = &trunk.inbound;
    let then = |number: &str| inbound.rule(number).unwrap().then.clone();
    assert_eq!(then("+15550001"), Then::Answer { agent: "echo".to_owned() });
    assert_eq!(then("101"), Then::Reject(Reject::Busy));
    assert_eq!(then("+4930"), Then::Play { audio_file: "/etc/closed.wav".into() });
    assert_eq!(then("1011"), Then::Notify { ring_timeout_s: 12 });
    assert_eq!(inbound.rule("+15550001").unwrap().max_duration, Some(Duration::from_secs(60)));
    let orgs: Vec<_> = inbound.rules.iter().map(|rule| rule.org.as_str()).collect();
    assert_eq!(orgs, ["org_a", "org_b", "org_a", "org_a"]);
    assert_eq!(inbound.webhook_url.as_ref().unwrap().as_str(), "https://example.com/calls");
    assert!(inbound.acl[0].holds("203.0.113.77".parse().unwrap()) && inbound.acl.len() == 2);
    let challenge = inbound.challenge.as_ref().unwrap();
    assert_eq!((challenge.username.as_str(), challenge.algorithms.as_slice()), ("pbx", &[Algorithm::Md5][..]));
    assert!(!format!("{trunk:?}").contains("5551234"));
    assert!(parse("").unwrap().inbound.rule("1").is_none());
}

#[test]
fn patterns() {
    for (pattern, fits, others) in [
        ("+1555*", &["+1555", "+15550001"][..], &["1555", "+1655"][..]),
        ("*99", &["99", "+1999", "9999"], &["990", ""]),
        ("10?", &["101", "10x"], &["10", "1011"]),
        ("*", &["", "anything"], &[]),
        ("a*b*c", &["abc", "axbxbxc"], &["ab", "axc"]),
    ] {
        let pattern: NumberPattern = pattern.parse().unwrap();
        assert!(fits.iter().all(|number| pattern.fits(number)), "{pattern:?}");
        assert!(!others.iter().any(|number| pattern.fits(number)), "{pattern:?}");
    }
    let slow: NumberPattern = "*a*a*a*a*a*a*a*a*b".parse().unwrap();
    assert!(!slow.fits(&"a".repeat(64)));
}

#[test]
fn mistakes_name_their_key_and_the_remedy() {
    let rule = |lines: &str| format!("org = \"o\"\n[[trunks.t.inbound]]\n{lines}");
    let table: &[(String, &[&str])] = &[
        (rule(""), &["trunks.t.inbound[0].rule is missing", "HANDLE_AI"]),
        (rule("rule = \"HANDEL_AI\""), &["inbound[0].rule", "did you mean HANDLE_AI?"]),
        (rule("rule = \"FORWARD\""), &["inbound[0].rule", "REJECT, PLAY_AND_HANGUP"]),
        (rule("rule = \"HANDLE_AI\""), &["inbound[0].agent is missing"]),
        (rule("rule = \"HANDLE_AI\"\nagent = \"ecko\""), &["inbound[0].agent is \"ecko\"", "did you mean \"echo\"?"]),
        (rule("rule = \"REJECT\"\nagent = \"echo\""), &["inbound[0].agent is of no use with REJECT"]),
        (rule("rule = \"REJECT\"\nreason = \"busi\""), &["inbound[0].reason", "did you mean \"busy\"?"]),
        (rule("rule = \"PLAY_AND_HANGUP\""), &["reject_audio_file"]),
        (rule("rule = \"NOTIFY_AND_HANGUP\"\nring_timeout_sec = 1"), &["ring_timeout_sec is 1", "5 to 120"]),
        (rule("number = \"+1 555\"\nrule = \"REJECT\""), &["inbound[0].number", "+1555*"]),
        (rule("rule = \"REJECT\"\nnumbr = \"1\""), &["inbound[0].numbr", "did you mean trunks.t.inbound[0].number?"]),
        ("[[trunks.t.inbound]]\nrule = \"REJECT\"".to_owned(), &["inbound[0].org is missing", "org at the trunk"]),
        (
            "inbound_webhook_url = \"https://h/\"".to_owned(),
            &["inbound_webhook_url is of no use", "[[trunks.t.inbound]]"],
        ),
        ("inbound_webhook_url = \"ftp://h/\"".to_owned(), &["inbound_webhook_url", "http or https"]),
        ("inbound_acl = [\"10.0.0.0/33\"]".to_owned(), &["inbound_acl[0]", "203.0.113.0/24"]),
        ("inbound_username = \"u\"".to_owned(), &["inbound_password is missing"]),
        ("inbound_password = \"p\"".to_owned(), &["inbound_username is missing"]),
        ("inbound_digest = [\"MD5\"]".to_owned(), &["inbound_digest is of no use"]),
        ("inbound_digest = [\"SHA-1\"]".to_owned(), &["inbound_digest[0]", "SHA-256, MD5 or both"]),
    ];
    for (text, wanted) in table {
        let error = parse(text).unwrap_err();
        for part in *wanted {
            assert!(error.contains(part), "{error:?} does not name {part:?}");
        }
    }
}

#[test]
fn secrets_and_hosts_of_webhooks() {
    let parse =
        |text: &str| Config::from_toml(&format!("state = \"s\"\n{text}"), Path::new("/etc"), std::iter::empty());
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let config = parse(&format!(
        "[orgs.a]\nwebhook_secret = \"{secret}\"\n[webhooks]\nattempts = 2\nhosts = [\"*.example.com\"]"
    ))
    .unwrap();
    assert!(config.orgs["a"].webhook_secret.is_some() && config.webhooks.pace.attempts == 2);
    assert!(!format!("{config:?}").contains("MfKQ"));
    let to = |url: &str| may_be_told(&url.parse().unwrap(), &config.webhooks.hosts);
    assert!(to("https://a.example.com/") && !to("https://example.com/") && !to("https://aexample.com/"));
    for local in ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "[fd00:ec2::254]"] {
        assert!(!may_be_told(&format!("http://{local}/latest").parse().unwrap(), &[]), "{local}");
    }
    assert!(may_be_told(&"http://[fd00:ec2::253]/".parse().unwrap(), &[]));
    for (text, parts) in [
        ("[orgs.a]\nwebhook_secret = \"MfKQ9r8GKYqrTwjU\"", ["orgs.a.webhook_secret", "whsec_"]),
        ("[webhooks]\nhosts = [\"https://x\"]", ["webhooks.hosts[0]", "*.example.com"]),
        ("[webhooks]\nattempt = 1", ["webhooks.attempt", "did you mean webhooks.attempts?"]),
    ] {
        let error = parse(text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains("MfKQ"), "{error}");
    }
}
