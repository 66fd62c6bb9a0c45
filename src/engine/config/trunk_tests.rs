//! Trunks: both forms of the file, the vendor's names, what is checked, and what is never shown.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::sip::Codec;

fn parse(trunks: &str) -> Result<Config, String> {
    Config::from_toml(&format!("state = \"s\"\n{trunks}"), Path::new("/etc"), std::iter::empty())
}

fn sip(lines: &str) -> SipTrunk {
    let config = parse(&format!("[trunks.t]\n{lines}")).unwrap();
    match &config.trunks["t"].kind {
        TrunkKind::Sip(sip) => (**sip).clone(),
        TrunkKind::Phone => panic!("no SIP trunk"),
    }
}

const VENDORS: &str = r#"
[[trunks]]
trunk_id = "trunk_main"
display_name = "Carrier"
tenant_id = "org_abc"
channel_limit = 100
gateway_ip = "203.0.113.9"
sbc_ip = "203.0.113.8"
source_pbx_port = 5070
destination_sbc_port = 5080
domain = "carrier.example.com"
proxy = "edge.example.com:5090"
require_registration = true
sip_username = "acct"
sip_password = "p4ss5551234"
register_expires_sec = 600
codec_preferences = ["g711_alaw", "OPUS"]
rtp_start_port = 30001
rtp_end_port = 30999
internal_sip_ip = "10.0.0.5"
external_sip_ip = "198.51.100.5"
"#;

#[test]
fn the_vendors_names_in_rows() {
    let config = parse(VENDORS).unwrap();
    let trunk = &config.trunks["trunk_main"];
    assert_eq!(
        (trunk.kind.as_str(), trunk.channel_limit, trunk.display_name.as_deref()),
        ("sip", 100, Some("Carrier"))
    );
    assert_eq!(trunk.org.as_deref(), Some("org_abc"));
    let TrunkKind::Sip(sip) = &trunk.kind else { panic!("no SIP trunk") };
    assert_eq!(sip.peer(), "edge.example.com:5090".parse().unwrap());
    assert_eq!(sip.trunk_host(), "carrier.example.com");
    assert_eq!(sip.hosts(), ["203.0.113.8", "203.0.113.9", "edge.example.com", "carrier.example.com"]);
    assert_eq!((sip.source_pbx_port, sip.rtp_ports.clone()), (5070, 30_001..=30_999));
    assert_eq!(sip.codec_preferences, [Codec::Pcma, Codec::Opus]);
    assert_eq!((sip.require_registration, sip.register_expires), (true, Duration::from_secs(600)));
    let credentials = sip.credentials.as_ref().unwrap();
    assert_eq!((credentials.sip_username.as_str(), credentials.sip_password.reveal()), ("acct", "p4ss5551234"));
    // What SIP says of our addresses RTP says too.
    assert_eq!(sip.internal_rtp_ip, sip.internal_sip_ip);
    assert_eq!(sip.external_rtp_ip, Some("198.51.100.5".parse().unwrap()));
    assert!(!format!("{config:?}").contains("5551234"));
}

#[test]
fn where_requests_go_and_what_our_uris_say() {
    for (lines, peer, host) in [
        ("sbc_ip = \"10.0.0.1\"", "10.0.0.1", "10.0.0.1"),
        ("sbc_ip = \"10.0.0.1:5090\"", "10.0.0.1:5090", "10.0.0.1:5090"),
        ("sbc_ip = \"10.0.0.1\"\ndestination_sbc_port = 5060", "10.0.0.1:5060", "10.0.0.1"),
        ("sbc_ip = \"10.0.0.1\"\ndestination_sbc_port = 5061", "10.0.0.1:5061", "10.0.0.1:5061"),
        ("sbc_ip = \"10.0.0.1:5061\"\ntransport = \"tls\"", "10.0.0.1:5061", "10.0.0.1"),
        ("gateway_ip = \"2001:db8::1\"", "2001:db8::1", "[2001:db8::1]"),
        ("domain = \"example.com\"", "example.com", "example.com"),
        ("domain = \"example.com\"\nproxy = \"10.0.0.9\"", "10.0.0.9", "example.com"),
    ] {
        let trunk = sip(lines);
        assert_eq!((trunk.peer(), trunk.trunk_host().as_str()), (peer.parse().unwrap(), host), "{lines}");
    }
}

#[test]
fn a_name_without_a_port_has_it_from_its_records() {
    for (lines, hop, places) in [
        ("sbc_ip = \"10.0.0.1\"", "10.0.0.1:5060", &["10.0.0.1"][..]),
        ("sbc_ip = \"10.0.0.1\"\ntransport = \"tls\"", "10.0.0.1:5061", &["10.0.0.1"]),
        ("sbc_ip = \"h\"", "h", &["h"]),
        ("sbc_ip = \"h:5070\"", "h:5070", &["h:5070"]),
        ("sbc_ip = \"h\"\ndestination_sbc_port = 5080", "h:5080", &["h:5080"]),
        ("domain = \"d:5070\"\nproxy = \"p\"\ngateway_ip = \"g\"", "p", &["g", "p", "d:5070"]),
    ] {
        let trunk = sip(lines);
        assert_eq!(trunk.hop(), hop.parse().unwrap(), "{lines}");
        assert_eq!(trunk.places(), places.iter().map(|place| place.parse().unwrap()).collect::<Vec<Host>>(), "{lines}");
    }
}

#[test]
fn name_servers_are_addresses() {
    let servers = |written: &str| parse(&format!("[dns]\nservers = {written}")).map(|config| config.dns.servers);
    let expected = ["192.0.2.53:53", "127.0.0.1:5353", "[2001:db8::53]:53"].map(|text| text.parse().unwrap());
    assert_eq!(servers("[\"192.0.2.53\", \"127.0.0.1:5353\", \"2001:db8::53\"]"), Ok(expected.to_vec()));
    assert!(parse("").unwrap().dns.servers.is_empty());
    let environment = [("CLUTCHCALL_DNS_SERVERS".to_owned(), "192.0.2.53, 127.0.0.1:5353".to_owned())];
    let config = Config::from_toml("state = \"s\"", Path::new("/etc"), environment.into_iter()).unwrap();
    assert_eq!(config.dns.servers, expected[..2]);
    for (written, wanted) in [
        ("[\"ns.example.com\"]", ["dns.servers[0]", "ns.example.com", "192.0.2.53"]),
        ("[\"192.0.2.53\", \"192.0.2.54:0\"]", ["dns.servers[1]", "192.0.2.54:0", "127.0.0.1:5353"]),
        ("[\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\", \"192.0.2.4\"]", ["dns.servers", "4 addresses", "3 at most"]),
    ] {
        let error = servers(written).unwrap_err();
        assert!(wanted.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn who_may_be_shown() {
    let of = |ids: &str| {
        let config = parse(&format!("[trunks.t]\nkind = \"phone\"\ncaller_ids = {ids}")).unwrap();
        config.trunks["t"].clone()
    };
    assert!(of("[]").may_show("+1"));
    let trunk = of("[\"+15558675309\", \"+49*\"]");
    assert!(trunk.may_show("+15558675309") && trunk.may_show("+49301") && trunk.may_show("+49"));
    assert!(
        !trunk.may_show("+155586753091")
            && !trunk.may_show("+48301")
            && !trunk.may_show("+49*x".trim_start_matches('+'))
    );
}

#[test]
fn zero_turns_a_limit_off() {
    let off = sip(
        "sbc_ip = \"h\"\noptions_interval_sec = 0\nsession_expires_sec = 0\nmedia_timeout_sec = 0\nmedia_timeout_initial_sec = 0",
    );
    assert_eq!((off.options_interval, off.session_expires), (None, None));
    assert_eq!((off.media_timeout, off.media_timeout_initial), (None, None));
}

#[test]
fn who_shows_a_certificate_need_not_keep_a_connection() {
    let trunk = sip(
        "sbc_ip = \"h\"\ntransport = \"tls\"\noptions_interval_sec = 0\ntls_certificate = \"c.pem\"\ntls_private_key = \"/k.pem\"",
    );
    let (chain, key) = trunk.tls_certificate.unwrap();
    assert!(chain.ends_with("c.pem") && key == std::path::Path::new("/k.pem"), "{chain:?} {key:?}");
}

#[test]
fn mistakes_name_their_key_and_the_remedy() {
    let table: &[(&str, &[&str])] = &[
        ("[trunks.t]", &["trunks.t.kind is missing", "\"sip\"", "\"phone\""]),
        ("[trunks.t]\nkind = \"isdn\"", &["trunks.t.kind", "isdn", "\"sip\""]),
        ("[trunks.t]\nkind = \"sip\"", &["trunks.t.sbc_ip is missing", "gateway_ip, proxy or domain"]),
        ("[[trunks]]\nsbc_ip = \"h\"", &["trunks[0].trunk_id is missing"]),
        ("[[trunks]]\ntrunk_id = \"a b\"\nsbc_ip = \"h\"", &["trunks[0].trunk_id", "letters, digits"]),
        (
            "[[trunks]]\ntrunk_id = \"a\"\nsbc_ip = \"h\"\n[[trunks]]\ntrunk_id = \"a\"\nsbc_ip = \"h\"",
            &["trunks[1].trunk_id", "another trunk"],
        ),
        ("[trunks.a]\ntrunk_id = \"b\"\nsbc_ip = \"h\"", &["trunks.a.trunk_id", "\"a\"", "keep one"]),
        ("[trunks.t]\nsbc_ip = \"h h\"", &["trunks.t.sbc_ip", "h h", "host name"]),
        ("[trunks.t]\nsbc_ip = \"h:99999\"", &["trunks.t.sbc_ip", "the port is none"]),
        ("[trunks.t]\nsbc_ip = \"h\"\ntransport = \"upd\"", &["trunks.t.transport", "did you mean \"udp\"?"]),
        ("[trunks.t]\nsbc_ip = \"h\"\ntransport = \"sctp2\"", &["trunks.t.transport", "udp, tcp, tls"]),
        (
            "[trunks.t]\nsbc_ip = \"h\"\ntransport = \"tls\"\noptions_interval_sec = 0",
            &["trunks.t.options_interval_sec", "TLS", "5 to 240"],
        ),
        (
            "[trunks.t]\nsbc_ip = \"h\"\ntransport = \"tls\"\noptions_interval_sec = 300",
            &["trunks.t.options_interval_sec", "5 to 240"],
        ),
        (
            "[trunks.t]\nsbc_ip = \"h\"\ntransport = \"tls\"\ntls_certificate = \"c.pem\"",
            &["trunks.t.tls_private_key is missing", "tls_certificate"],
        ),
        (
            "[trunks.t]\nsbc_ip = \"h\"\ntransport = \"tls\"\ntls_private_key = \"k.pem\"",
            &["trunks.t.tls_certificate is missing", "tls_private_key"],
        ),
        (
            "[trunks.t]\nsbc_ip = \"h\"\ntls_certificate = \"c.pem\"\ntls_private_key = \"k.pem\"",
            &["trunks.t.tls_certificate", "TLS alone", "transport = \"tls\""],
        ),
        ("[trunks.t]\nsbc_ip = \"h\"\nsip_username = \"u\"", &["trunks.t.sip_password is missing"]),
        ("[trunks.t]\nsbc_ip = \"h\"\nsip_password = \"p\"", &["trunks.t.sip_username is missing"]),
        (
            "[trunks.t]\nsbc_ip = \"h\"\nrequire_registration = true",
            &["trunks.t.sip_username is missing", "sip_password"],
        ),
        ("[trunks.t]\nsbc_ip = \"h\"\ncodec_preferences = [\"PCMU\", \"g729\"]", &["codec_preferences[1]", "opus"]),
        ("[trunks.t]\nsbc_ip = \"h\"\ncodec_preferences = [\"PCMU\", \"ulaw\"]", &["codec_preferences[1]", "already"]),
        (
            "[trunks.t]\nsbc_ip = \"h\"\nrtp_start_port = 20000\nrtp_end_port = 20000",
            &["rtp_end_port", "rtp_start_port"],
        ),
        ("[trunks.t]\nsbc_ip = \"h\"\nrtp_end_port = 10099", &["rtp_end_port", "50 calls", "lower channel_limit"]),
        ("[trunks.t]\nsbc_ip = \"h\"\nnumber_template = \"sip:{number}@h\"", &["number_template", "{number}", "{to}"]),
        ("[trunks.t]\nsbc_ip = \"h\"\nnumber_template = \"tel:{to}\"", &["number_template", "needs a host"]),
        ("[trunks.t]\nsbc_ip = \"h\"\nrefer_to = \"x\"", &["trunks.t.refer_to", "tel:{to}"]),
        ("[trunks.t]\nsbc_ip = \"h\"\ntransfer_mode = \"blind\"", &["transfer_mode", "auto, refer, bridge"]),
        ("[trunks.t]\nsbc_ip = \"h\"\ndtmf_mode = \"inband\"", &["dtmf_mode", "auto, rfc2833, info"]),
        ("[trunks.t]\nsbc_ip = \"h\"\ncaller_ids = [\"1555\"]", &["caller_ids[0]", "+1555*"]),
        ("[trunks.t]\nsbc_ip = \"h\"\nregister_expires_sec = 5", &["register_expires_sec", "from 60"]),
        ("[trunks.t]\nsbc_ip = \"h\"\norg = \"a\"\ntenant_id = \"a\"", &["trunks.t.org", "tenant_id", "keep one"]),
        ("[trunks.t]\nsbc_ip = \"h\"\nsession_expires_sec = 30", &["session_expires_sec", "0 for none", "90"]),
        (
            "[trunks.t]\nsbc_ip = \"h\"\nsession_expires_sec = 100\nmin_se_sec = 200",
            &["session_expires_sec", "min_se_sec"],
        ),
        ("[trunks.t]\nsbc_ip = \"h\"\nsbc_port = 5060", &["trunks.t.sbc_port is not a key"]),
    ];
    for (text, wanted) in table {
        let error = parse(text).unwrap_err();
        for part in *wanted {
            assert!(error.contains(part), "{error:?} does not name {part:?}");
        }
    }
}

#[test]
fn no_message_shows_a_password() {
    for lines in [
        "sip_password = 5551234",
        "sip_password = [\"5551234\"]",
        "sip_password = \"5551234\"",
        "sip_username = \"u\"\nsip_password = \"5551234\"\nsip_pasword = \"5551234\"",
        "sip_username = \"u\"\nsip_password = \"5551234",
    ] {
        let error = parse(&format!("[trunks.t]\nsbc_ip = \"h\"\n{lines}")).unwrap_err();
        assert!(!error.contains("5551234"), "{error}");
    }
}
