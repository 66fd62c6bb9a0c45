use std::net::Ipv4Addr;

use domain::base::iana::Rcode;
use domain::base::{Serial, Ttl};
use domain::rdata::A;

use super::*;

const NAME: &str = "_sip._udp.example.com";
const ID: u16 = 0x1234;

fn name(text: &str) -> Name<Vec<u8>> {
    text.parse().unwrap()
}

/// An answer to [`NAME`] with these records: owner, lifetime, priority, weight, port, target.
type Row<'a> = (&'a str, u32, u16, u16, u16, &'a str);

fn answer(rcode: Rcode, aliases: &[(&str, u32, &str)], rows: &[Row<'_>]) -> Vec<u8> {
    let question = question(NAME, ID).unwrap();
    let asked = Message::from_slice(&question).unwrap();
    let mut message = MessageBuilder::new_vec().start_answer(asked, rcode).unwrap();
    for (owner, ttl, canonical) in aliases {
        message.push((name(owner), Ttl::from_secs(*ttl), Cname::new(name(canonical)))).unwrap();
    }
    for (owner, ttl, priority, weight, port, target) in rows {
        let srv = Srv::new(*priority, *weight, *port, name(target));
        message.push((name(owner), Ttl::from_secs(*ttl), srv)).unwrap();
    }
    message.finish()
}

fn place(priority: u16, weight: u16, port: u16, target: &str) -> Record {
    Record { priority, weight, port, target: target.to_owned() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_bytes_of_a_question() {
    let expected =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04_sip\x04_udp\x07example\x03com\x00\x00\x21\x00\x01";
    assert_eq!(question(NAME, ID).unwrap(), expected);
    assert_eq!(question(&format!("{NAME}."), ID).unwrap(), expected);
    for bad in [format!("_sip._udp.{}", "a".repeat(64)), format!("_sip._udp.{}", "a.".repeat(127)), "a..b".to_owned()] {
        assert_eq!(question(&bad, ID), None, "{bad}");
    }
}

#[test]
fn the_bytes_of_an_answer() {
    // Of a server that compresses: the owner is the question's name, the target's end its domain.
    let mut bytes = question(NAME, ID).unwrap();
    bytes[2] = 0x81;
    bytes[3] = 0x80;
    bytes[7] = 1;
    bytes.extend(b"\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x78\x00\x0c\x00\x0a\x00\x3c\x13\xc4\x03sbc\xc0\x16");
    let expected = Service::At(vec![place(10, 60, 5060, "sbc.example.com")]);
    assert_eq!(read(&bytes, NAME, ID), Ok((expected, seconds(120))));
}

#[test]
fn the_shortest_lifetime_is_that_of_all() {
    let rows = [(NAME, 300, 10, 60, 5060, "a.example.com"), (NAME, 200, 10, 40, 5070, "b.example.com")];
    let bytes = answer(Rcode::NOERROR, &[], &rows);
    let expected = Service::At(vec![place(10, 60, 5060, "a.example.com"), place(10, 40, 5070, "b.example.com")]);
    assert_eq!(read(&bytes, NAME, ID), Ok((expected, seconds(200))));
}

#[test]
fn an_alias_leads_to_the_records_of_its_canonical_name() {
    let aliases = [(NAME, 100, "_sip._udp.x.example.net"), ("_sip._udp.x.example.net", 50, "_sip._udp.y.example.net")];
    let rows = [
        ("_sip._udp.y.example.net", 300, 1, 1, 5060, "a.example.net"),
        // Nobody asked for this one.
        ("_sip._udp.z.example.net", 300, 1, 1, 5060, "b.example.net"),
    ];
    let expected = Service::At(vec![place(1, 1, 5060, "a.example.net")]);
    assert_eq!(read(&answer(Rcode::NOERROR, &aliases, &rows), NAME, ID), Ok((expected, seconds(50))));
    // It leads to nothing, or round and round.
    assert_eq!(read(&answer(Rcode::NOERROR, &aliases, &[]), NAME, ID), Ok((Service::Unsaid, UNSAID)));
    let round = [(NAME, 100, "_sip._udp.x.example.net"), ("_sip._udp.x.example.net", 50, NAME)];
    assert_eq!(read(&answer(Rcode::NOERROR, &round, &rows), NAME, ID), Err(Unread::Refused));
}

#[test]
fn a_service_that_is_decidedly_not_there() {
    let none = (NAME, 60, 0, 0, 0, ".");
    assert_eq!(read(&answer(Rcode::NOERROR, &[], &[none]), NAME, ID), Ok((Service::NotOffered, seconds(60))));
    // Beside another it says nothing.
    let bytes = answer(Rcode::NOERROR, &[], &[none, (NAME, 60, 1, 1, 5060, "a.example.com")]);
    assert_eq!(read(&bytes, NAME, ID), Ok((Service::At(vec![place(1, 1, 5060, "a.example.com")]), seconds(60))));
}

#[test]
fn targets_that_are_no_hosts_are_passed_over() {
    let rows = [
        (NAME, 60, 1, 1, 5060, r"a\.b.example.com"),
        (NAME, 60, 1, 1, 5060, r"evil\010.example.com"),
        (NAME, 60, 1, 1, 0, "no-port.example.com"),
        (NAME, 60, 1, 1, 5060, "a_b-1.example.com"),
    ];
    let expected = Service::At(vec![place(1, 1, 5060, "a_b-1.example.com")]);
    assert_eq!(read(&answer(Rcode::NOERROR, &[], &rows), NAME, ID), Ok((expected, seconds(60))));
    assert_eq!(read(&answer(Rcode::NOERROR, &[], &rows[..3]), NAME, ID), Ok((Service::Unsaid, UNSAID)));
}

#[test]
fn of_many_records_the_first_priorities_are_kept() {
    let targets: Vec<String> = (0..200).map(|nth| format!("h{nth}.example.com")).collect();
    let rows: Vec<Row<'_>> =
        (0..200).map(|nth| (NAME, 60, 200 - nth, 1, 5060, targets[usize::from(nth)].as_str())).collect();
    let Ok((Service::At(kept), _)) = read(&answer(Rcode::NOERROR, &[], &rows), NAME, ID) else { panic!("no records") };
    assert_eq!((kept.len(), kept[0].target.as_str(), kept[0].priority), (MOST_RECORDS, "h199.example.com", 1));
}

#[test]
fn nothing_is_nothing_for_as_long_as_the_zone_says() {
    let question = question(NAME, ID).unwrap();
    for rcode in [Rcode::NOERROR, Rcode::NXDOMAIN] {
        for (ttl, minimum, believed) in [(600, 300, 300), (30, 300, 30)] {
            let asked = Message::from_slice(&question).unwrap();
            let mut message = MessageBuilder::new_vec().start_answer(asked, rcode).unwrap().authority();
            let ttls = [1, 1, 1, minimum].map(Ttl::from_secs);
            let soa =
                Soa::new(name("ns.example.com"), name("m.example.com"), Serial(1), ttls[0], ttls[1], ttls[2], ttls[3]);
            message.push((name("example.com"), Ttl::from_secs(ttl), soa)).unwrap();
            assert_eq!(read(&message.finish(), NAME, ID), Ok((Service::Unsaid, seconds(believed))));
        }
        assert_eq!(read(&answer(rcode, &[], &[]), NAME, ID), Ok((Service::Unsaid, UNSAID)));
    }
    // Records of another kind are none of ours.
    let asked = Message::from_slice(&question).unwrap();
    let mut message = MessageBuilder::new_vec().start_answer(asked, Rcode::NOERROR).unwrap();
    message.push((name(NAME), Ttl::from_secs(9), A::new(Ipv4Addr::LOCALHOST))).unwrap();
    assert_eq!(read(&message.finish(), NAME, ID), Ok((Service::Unsaid, UNSAID)));
}

#[test]
fn what_answers_something_else_is_none_of_ours() {
    let good = answer(Rcode::NOERROR, &[], &[(NAME, 60, 1, 1, 5060, "a.example.com")]);
    assert!(read(&good, NAME, ID).is_ok());
    assert!(read(&good, "_SIP._udp.EXAMPLE.com.", ID).is_ok(), "names have no case");
    for (other, id) in [(NAME, ID + 1), ("_sip._tcp.example.com", ID), ("example.com", ID), ("a..b", ID)] {
        assert_eq!(read(&good, other, id), Err(Unread::Foreign), "{other} {id}");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        read(&bytes, NAME, ID)
    };
    let end_of_question = 12 + NAME.len() + 2;
    assert_eq!(with(2, 0x01), Err(Unread::Foreign), "a question");
    assert_eq!(with(2, 0xa9), Err(Unread::Foreign), "of another opcode");
    assert_eq!(with(5, 2), Err(Unread::Foreign), "to two questions");
    assert_eq!(with(end_of_question + 1, 1), Err(Unread::Foreign), "to one for addresses");
    assert_eq!(with(end_of_question + 3, 3), Err(Unread::Foreign), "of another class");
    for short in [0, 11, 12, 20] {
        assert_eq!(read(&good[..short], NAME, ID), Err(Unread::Foreign));
    }
}

#[test]
fn what_is_cut_or_refused() {
    let mut bytes = answer(Rcode::NOERROR, &[], &[(NAME, 60, 1, 1, 5060, "a.example.com")]);
    let whole = bytes.len();
    assert_eq!(read(&bytes[..whole - 1], NAME, ID), Err(Unread::Refused), "it can't be read to its end");
    bytes[2] |= 0x02;
    assert_eq!(read(&bytes, NAME, ID), Err(Unread::Truncated));
    for rcode in [Rcode::SERVFAIL, Rcode::REFUSED, Rcode::FORMERR, Rcode::NOTIMP] {
        assert_eq!(read(&answer(rcode, &[], &[]), NAME, ID), Err(Unread::Refused));
    }
}
