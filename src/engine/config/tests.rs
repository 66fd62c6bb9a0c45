use std::path::Path;
use std::time::Duration;

use super::*;
use crate::moqt::relay::CacheLimits;

fn parse(text: &str) -> Result<Config, String> {
    parse_with(text, &[])
}

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_toml(text, Path::new("/etc/clutchcall"), environment)
}

const WHOLE: &str = r#"
state = "state"
node = "fra1"
[api]
listen = "0.0.0.0:80"
[relay]
listen = "[::]:4433"
certificate = "chain.pem"
key = "/keys/key.pem"
public_url = "moqt://voice.example.com:4433"
pool = 32
[phone]
clip = "hello.wav"
ring_ms = 100
[orgs.org_a]
display_name = "A"
[trunks.trunk_main]
kind = "phone"
channel_limit = 3
max_cps = 7
org = "org_a"
[agents.echo]
kind = "echo"
[[keys]]
org = "org_a"
key = "tqs_live_0123456789"
[limits]
records = 5
"#;

#[test]
fn a_whole_file() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.state, Path::new("/etc/clutchcall/state"));
    assert_eq!(config.api.listen.port(), 80);
    let pem = config.relay.certificate.unwrap();
    assert_eq!(pem, ("/etc/clutchcall/chain.pem".into(), "/keys/key.pem".into()));
    assert_eq!((config.relay.pool, config.limits.records, config.node.as_str()), (Some(32), 5, "fra1"));
    assert_eq!(config.phone.ring, Some(Duration::from_millis(100)));
    let trunk = &config.trunks["trunk_main"];
    assert_eq!((trunk.channel_limit, trunk.max_cps, trunk.org.as_deref()), (3, 7, Some("org_a")));
    assert_eq!(config.agents["echo"].kind, AgentKind::Echo);
    assert!(config.keys[0].is("tqs_live_0123456789") && !config.keys[0].is("tqs_live_0123456788"));
    assert!(config.keys[0].allows("voice:calls.get") && !config.keys[0].allows("admin:keys"));
}

/// Path and remedy stand in every message.
#[test]
fn mistakes_name_their_key_and_the_remedy() {
    let long_key = format!("state = \"s\"\n[[keys]]\norg = \"o\"\nkey = \"{}\"", "k".repeat(257));
    let table: &[(&str, &[&str])] = &[
        ("", &["state is missing"]),
        ("state = \"s\"\n[api]\nlisten = \"nowhere\"", &["api.listen", "nowhere", "127.0.0.1:8080"]),
        ("state = \"s\"\n[api]\nlisen = \"x\"", &["api.lisen is not a key", "did you mean api.listen?"]),
        ("state = \"s\"\n[apo]\n", &["apo is not a key", "did you mean api?"]),
        ("state = \"s\"\n[trunks.t]\nkind = \"phone\"\nchanel_limit = 1", &["did you mean trunks.t.channel_limit?"]),
        ("state = \"s\"\n[trunks.t]\nkind = \"phone\"\nzzzzzz = 1", &["trunks.t.zzzzzz", "known here: trunk_id, kind"]),
        ("state = \"s\"\n[trunks.t]\nkind = \"phone\"\nmax_cps = 0", &["trunks.t.max_cps is 0", "from 1 to"]),
        ("state = \"s\"\n[agents.a]\n", &["agents.a.kind is missing", "\"echo\""]),
        ("state = \"s\"\n[[keys]]\nkey = \"tqs_live_0123456789\"", &["keys[0].org is missing"]),
        ("state = \"s\"\n[[keys]]\norg = \"o\"\nhash = \"abc\"", &["keys[0].hash", "hmac-sha256$"]),
        ("state = \"s\"\n[[keys]]\norg = \"o\"", &["keys[0].hash or keys[0].key"]),
        (long_key.as_str(), &["keys[0].key is longer", "256"]),
        ("state = \"s\"\n[orgs.a]\n[[keys]]\norg = \"b\"\nkey = \"tqs_live_0123456789\"", &["keys[0].org", "[orgs.b]"]),
        ("state = \"s\"\n[relay]\ncertificate = \"c\"", &["relay.key is missing"]),
        ("state = \"s\"\n[api]\ncertificate = \"c\"", &["api.private_key is missing"]),
        ("state = \"s\"\n[api]\nprivate_key = \"k\"", &["api.certificate is missing"]),
        ("state = \"s\"\n[limits]\nhead_ms = 1", &["limits.head_ms is 1", "from 100"]),
        ("state = \"s\"\n[limits]\nbody_ms = 60000", &["limits.body_ms is 60000", "to 20000"]),
        ("state = \"s\"\n[limits]\nbody_bytes = 10", &["limits.body_bytes is 10", "from 8192"]),
        ("state = \"s\"\n[relay]\nurl = \"http://x\"", &["relay.url", "moqt://"]),
        ("state = \"s\"\n[relay]\ncertificate_hashes = [\"12\"]", &["relay.certificate_hashes[0]", "64"]),
        ("state = \"s\"\n[relay]\ntrust = \"all\"", &["relay.trust", "\"anything\""]),
        ("state = \"s\"\nnode = \"a-b\"", &["node", "letters and digits"]),
        ("state = \"s\"\n[limits]\ncalls = 5000", &["limits.calls is 5000", "audio_threads to 2"]),
        ("state = \"s\"\n[limits]\ntoken_ttl_s = 1", &["limits.token_ttl_s is 1", "from 2 to 86400"]),
        ("state = 3", &["state is 3", "quotes"]),
        ("state = ", &["line"]),
    ];
    for (text, wanted) in table {
        let error = parse(text).unwrap_err();
        for part in *wanted {
            assert!(error.contains(part), "{error:?} does not name {part:?}");
        }
    }
}

/// A mistake beside a secret, and in its place.
#[test]
fn no_message_shows_a_secret() {
    for text in [
        "state = \"s\"\n[[keys]]\norg = \"o\"\nkey = \"tqs_live_5551234",
        "state = \"s\"\n[[keys]]\norg = \"o\"\nkey = tqs_live_5551234",
        "state = \"s\"\n[[keys]]\norg = \"o\"\nkey = 5551234",
        "state = \"s\"\n[[keys]]\norg = \"o\"\nkey = [\"tqs_live_5551234\"]",
        "state = \"s\"\n[[keys]]\norg = \"o\"\nhash = \"hmac-sha256$5551234$\"",
        "state = \"s\"\n[[keys]]\norg = \"o\"\nhash = \"x\"\nkey = \"tqs_live_5551234\"",
        "state = \"s\"\n[relay.upstream]\nurl = \"moqt://x\"\ntoken = \"5551234\"",
        "state = \"s\"\n[relay.upstream]\nurl = \"moqt://x\"\ntoken = 5551234",
    ] {
        let error = parse(text).unwrap_err();
        assert!(!error.contains("5551234"), "{error}");
    }
}

#[test]
fn the_environment_wins() {
    let environment = [
        ("CLUTCHCALL_API_LISTEN", "127.0.0.1:1"),
        ("CLUTCHCALL_RELAY_POOL", "8"),
        ("CLUTCHCALL_RELAY_CERTIFICATE_HASHES", "aa"),
        ("CLUTCHCALL_API_KEY", "the SDK's own"),
        ("CLUTCHCALL_LOG", "debug"),
        ("HOME", "/root"),
    ];
    let config = parse_with(WHOLE, &[environment[0], environment[1], environment[3], environment[4]]).unwrap();
    assert_eq!((config.api.listen.port(), config.relay.pool), (1, Some(8)));
    assert!(parse_with(WHOLE, &environment).unwrap_err().contains("relay.certificate_hashes[0]"));
    let error = parse_with(WHOLE, &[("CLUTCHCALL_RELAY_POOLS", "8")]).unwrap_err();
    assert!(error.contains("did you mean CLUTCHCALL_RELAY_POOL?"), "{error}");
    let error = parse_with(WHOLE, &[("CLUTCHCALL_LIMITS_CALLS", "many")]).unwrap_err();
    assert!(error.contains("CLUTCHCALL_LIMITS_CALLS") && error.contains("whole number"), "{error}");
}

#[test]
fn a_key_lives_on_as_its_hash() {
    let (key, text) = mint("org_a", &["voice:calls.*"]);
    let kept = ApiKey::from_hash("org_a", key.scopes.clone(), &key.hash()).unwrap();
    assert!(kept.is(&text) && !kept.is("") && !kept.is(&text[1..]));
    assert!(kept.allows("voice:calls.get") && !kept.allows("voice:agents.attach"));
    assert!(!format!("{kept:?}{:?}", Config::dev("/x")).contains("tqs_live_"));
}

#[test]
fn dev_is_ready_to_call() {
    let config = Config::dev("/tmp/x");
    let minted = config.minted.unwrap();
    assert!(minted.key.starts_with("tqs_live_") && config.keys[0].is(&minted.key));
    assert!(config.api.listen.ip().is_loopback() && config.api.listen.port() == 0);
    assert!(config.trunks.contains_key("trunk_main") && config.agents.contains_key("echo"));
}

#[test]
fn what_a_relay_keeps_is_bounded_by_three_numbers() {
    let with = |lines: &str| parse(&format!("{WHOLE}\n[relay.limits]\n{lines}"));
    let cache = with("cache_ms = 500\ncache_track_bytes = 8192\ncache_bytes = 0").unwrap().relay.relaying.cache;
    let expected = CacheLimits { age: Duration::from_millis(500), track_bytes: 8192, bytes: 0 };
    assert_eq!(cache, expected);
    assert!(with("cache_track_bytes = 999999999").unwrap_err().contains("cache_track_bytes"));
}

/// The example is right as it stands, and each of its comments is a key with its default.
#[test]
fn the_example_is_whole() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!((config.keys.len(), config.trunks.len(), config.agents.len()), (1, 1, 1));
    let mut commented = EXAMPLE.replace("\n#", "\n");
    for other in [
        "url = \"moqt://relay",
        "trust =",
        "roots =",
        "certificate_hashes =",
        "tls_certificate =",
        "tls_private_key =",
        "public_keys =",
        " CLUTCHCALL",
        " Or a relay",
        " Where calls go.",
        " What becomes of",
        " The engine's own relay as",
        " `roots` or",
    ] {
        commented = commented.replace(&format!("\n{other}"), &format!("\n#{other}"));
    }
    let all = parse(&commented).unwrap();
    assert_eq!(format!("{:?}", all.limits), format!("{:?}", Limits::default()));
    assert_eq!(all.relay.relaying.cache, CacheLimits::default());
    assert_eq!(all.webhooks.pace, Webhooks::default().pace);
    assert_eq!(all.trunks["carrier"].inbound.rules.len(), 3);
    let (trunk, default) = (&all.trunks["trunk_main"], Trunk::default());
    assert_eq!((trunk.channel_limit, trunk.max_cps), (default.channel_limit, default.max_cps));
    let (TrunkKind::Sip(carrier), default) = (&all.trunks["carrier"].kind, SipTrunk::default()) else {
        panic!("the carrier speaks SIP")
    };
    let written = SipTrunk {
        tls_roots: default.tls_roots,
        sbc_ip: default.sbc_ip,
        gateway_ip: default.gateway_ip,
        proxy: default.proxy,
        domain: default.domain,
        destination_sbc_port: default.destination_sbc_port,
        credentials: default.credentials,
        external_sip_ip: default.external_sip_ip,
        external_rtp_ip: default.external_rtp_ip,
        ..(**carrier).clone()
    };
    assert_eq!(format!("{written:?}"), format!("{:?}", SipTrunk::default()));
    for (path, _) in env::KEYS {
        let key = path.rsplit('.').next().unwrap();
        assert!(EXAMPLE.contains(&format!("{key} = ")), "{path} is missing");
    }
}

#[test]
fn a_url_is_named_without_what_may_be_a_password() {
    for key in ["[relay]\nurl", "[relay]\npublic_url", "[relay]\nweb_transport_url", "[relay.upstream]\nurl"] {
        for url in
            ["moqt://us3r:pa55@h", "moqt://us3r:pa/55@h", "moqt://us3r:1/55@h", "ftp://us3r:pa55@h", "us3r:pa55@h"]
        {
            let told = parse(&format!("state = \"s\"\n{key} = \"{url}\"")).unwrap_err();
            assert!(told.contains("url is \"") && !told.contains("us3r") && !told.contains("55"), "{told}");
        }
    }
}
