//! Where the name of a far side leads, as a name server says it: dnsmasq on a port of its own. The hosts behind its records are looked up by
//! the machine's resolver, which knows `localhost`.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use clutchcall::call::{EndReason, Status};
use clutchcall::engine::config::{SipTrunk, Trunk, TrunkKind};
use clutchcall::engine::sip::{Servers, Transport};
use clutchcall::engine::trunk::Trunk as _;
use serde_json::json;

use crate::around::probed;
use crate::common::Bench;
use crate::engine::{beside, originate};
use crate::rig::{Caller, Far, LIMIT, case, free_port, towards};

/// Where Debian puts it, and where a shell of root finds it.
const PROGRAMS: [&str; 2] = ["dnsmasq", "/usr/sbin/dnsmasq"];
const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));

/// Runs one case; without dnsmasq it is left out and said, in CI it fails.
fn named<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    if program().is_some() {
        return case(body);
    }
    assert!(std::env::var_os("CI").is_none(), "dnsmasq is missing: make packages");
    eprintln!("LEFT OUT: dnsmasq is missing (make packages)");
}

fn program() -> Option<&'static str> {
    let runs = |program: &&str| {
        Program::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    PROGRAMS.into_iter().find(runs)
}

struct NameServer {
    child: Child,
    address: SocketAddr,
}

/// `_sip._udp.carrier.test`, a port of `localhost`, priority and weight.
type Record<'a> = (&'a str, u16, u16, u16);

impl NameServer {
    async fn start(records: &[Record<'_>]) -> Self {
        let row = |(name, port, priority, weight): &Record<'_>| format!("{name},localhost,{port},{priority},{weight}");
        Self::saying(&records.iter().map(row).collect::<Vec<_>>()).await
    }

    /// Rows as `--srv-host` takes them.
    async fn saying(rows: &[String]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut program = Program::new(program().unwrap());
        program.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="]);
        program.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/", "--local=/localhost/"]);
        program.arg(format!("--port={}", address.port()));
        program.args(rows.iter().map(|row| format!("--srv-host={row}")));
        let child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (this, begun) = (Self { child, address }, Instant::now());
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < LIMIT, "dnsmasq does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        this
    }

    fn servers(&self) -> Servers {
        Servers::new(vec![self.address])
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A trunk to a name without a port.
fn trunk(transport: Transport, name: &str) -> SipTrunk {
    let internal_sip_ip = Ipv4Addr::LOCALHOST.into();
    SipTrunk { sbc_ip: Some(name.parse().unwrap()), internal_sip_ip, ..towards(transport, 1) }
}

async fn caller(names: &NameServer, transport: Transport) -> Caller {
    Caller::asking(names.servers(), trunk(transport, "carrier.test")).await
}

/// Answered, and hung up.
async fn calls(caller: &mut Caller) {
    caller.place(20);
    caller.until(Status::InProgress).await;
    caller.hangup();
    caller.settled().await;
    assert_eq!(caller.ending(), NORMAL);
}

fn local(port: u16) -> Option<SocketAddr> {
    Some((Ipv4Addr::LOCALHOST, port).into())
}

#[test]
fn the_lower_priority_is_called_at_its_own_port() {
    named(async || {
        let (far, spare) = (Far::start("our_bye", &[]).await, Far::start("our_bye", &[]).await);
        let records = [("_sip._udp.carrier.test", spare.port, 20, 9), ("_sip._udp.carrier.test", far.port, 10, 1)];
        let names = NameServer::start(&records).await;
        calls(&mut caller(&names, Transport::Udp).await).await;
        let traffic = far.played().await;
        let invite = traffic.our("INVITE");
        assert_eq!(invite.line(), "INVITE sip:+15550001234@carrier.test SIP/2.0");
        assert!(invite.lacks("Route"), "where it goes is nobody's business: {}", invite.text);
        assert!(spare.traffic().ours("INVITE").is_empty());
    });
}

#[test]
fn equals_share_the_calls_and_a_cancel_goes_where_its_invite_went() {
    named(async || {
        let many = [("calls", "100")];
        let (one, two) = (Far::start("rings", &many).await, Far::start("rings", &many).await);
        let records = [("_sip._udp.carrier.test", one.port, 1, 50), ("_sip._udp.carrier.test", two.port, 1, 50)];
        let names = NameServer::start(&records).await;
        let mut caller = caller(&names, Transport::Udp).await;
        for _ in 0..20 {
            caller.place(20);
            caller.until(Status::Ringing).await;
            caller.hangup();
            caller.settled().await;
            assert_eq!(caller.ending(), (Status::Failed, EndReason::Canceled, None, Some(31)));
        }
        for far in [one, two] {
            let traffic = far.traffic();
            let ids = |begins: &str| {
                let mut ids: Vec<_> = traffic.ours(begins).iter().map(|message| message.header("Call-ID")).collect();
                ids.dedup();
                ids.into_iter().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(ids("INVITE"), ids("CANCEL"));
            // By chance none of twenty comes here once in half a million runs.
            assert!((1..20).contains(&ids("INVITE").len()), "{:?}", ids("INVITE"));
            assert!(traffic.ours("CANCEL").iter().all(|cancel| cancel.lacks("Route")));
        }
    });
}

#[test]
fn a_target_that_refuses_gives_way_to_the_next() {
    named(async || {
        let far = Far::over(Transport::Tcp, "our_bye", &[]).await;
        let records = [("_sip._tcp.carrier.test", free_port(), 1, 1), ("_sip._tcp.carrier.test", far.port, 2, 1)];
        let names = NameServer::start(&records).await;
        calls(&mut caller(&names, Transport::Tcp).await).await;
        let traffic = far.played().await;
        let via = traffic.our("INVITE").header("Via");
        assert!(via.starts_with("SIP/2.0/TCP 127.0.0.1:"), "{via}");
    });
}

#[test]
fn a_target_that_leaves_options_unanswered_is_left_out() {
    named(async || {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (far, silent_port) = (Far::start("our_bye", &[]).await, silent.local_addr().unwrap().port());
        let records = [("_sip._udp.carrier.test", silent_port, 1, 1), ("_sip._udp.carrier.test", far.port, 2, 1)];
        let names = NameServer::start(&records).await;
        let mut caller = caller(&names, Transport::Udp).await;
        let probe = probed(&mut caller).await;
        assert_eq!((probe.answer, probe.address), (Err("nobody answered".to_owned()), local(silent_port)));
        assert_eq!(probe.peer, "carrier.test");
        calls(&mut caller).await;
        far.played().await;
    });
}

#[test]
fn a_test_says_which_target_answered() {
    named(async || {
        let far = Far::start("is_there", &[("code", "200"), ("phrase", "OK"), ("extra", "X: y")]).await;
        let names = NameServer::start(&[("_sip._udp.carrier.test", far.port, 1, 1)]).await;
        let mut caller = caller(&names, Transport::Udp).await;
        let probe = probed(&mut caller).await;
        assert_eq!((probe.answer, probe.address), (Ok((200, "OK".to_owned())), local(far.port)));
        assert_eq!(far.played().await.our("OPTIONS").line(), "OPTIONS sip:carrier.test SIP/2.0");
    });
}

#[test]
fn without_records_or_without_an_answer_the_names_own_address_is_meant() {
    named(async || {
        let names = NameServer::start(&[]).await;
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        for servers in [names.servers(), Servers::new(vec![silent.local_addr().unwrap()])] {
            let mut caller = Caller::asking(servers, trunk(Transport::Udp, "localhost")).await;
            // Whoever is there or not.
            assert_eq!(probed(&mut caller).await.address, local(5060));
        }
    });
}

#[test]
fn a_service_that_is_not_offered_is_said_to_be_so() {
    named(async || {
        // Its target is the root.
        let names = NameServer::saying(&["_sip._udp.carrier.test".to_owned()]).await;
        let mut caller = caller(&names, Transport::Udp).await;
        let probe = probed(&mut caller).await;
        let error = probe.answer.unwrap_err();
        assert!(error.contains("carrier.test offers no SIP over udp (its record _sip._udp.carrier.test"), "{error}");
        assert_eq!((probe.address, caller.trunk.problem()), (None, Some(error.clone())));
        caller.place(20);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::NetworkError, None, Some(38)));
        assert_eq!(caller.record().sip_phrase, Some(error), "the record says why");
    });
}

#[test]
fn an_answer_that_fits_no_datagram_comes_by_tcp() {
    named(async || {
        let far = Far::start("our_bye", &[]).await;
        let long = "x".repeat(60);
        let more = (1..40).map(|nth| format!("_sip._udp.carrier.test,{long}{nth}.test,5060,{nth},1"));
        let rows: Vec<_> = more.chain([format!("_sip._udp.carrier.test,localhost,{},0,1", far.port)]).collect();
        let names = NameServer::saying(&rows).await;
        calls(&mut caller(&names, Transport::Udp).await).await;
        far.played().await;
    });
}

#[test]
fn addresses_behind_the_records_are_the_trunks_own() {
    named(async || {
        let names = NameServer::start(&[("_sip._udp.carrier.test", 5060, 1, 1)]).await;
        let caller = caller(&names, Transport::Udp).await;
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (us, to) = (socket.local_addr().unwrap(), caller.address);
        let (mut answer, begun) = ([0; 4096], Instant::now());
        for nth in 1.. {
            let request = format!(
                "OPTIONS sip:us@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bKask{nth}\r\nFrom: <sip:far@{us}>;tag=1\r\n\
                 To: <sip:us@{to}>\r\nCall-ID: ask{nth}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            );
            socket.send_to(request.as_bytes(), to).await.unwrap();
            // Until the name is looked up it is a stranger's, and dropped.
            let heard = tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut answer)).await;
            if heard.is_ok() {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "nobody is let in");
        }
        assert!(answer.starts_with(b"SIP/2.0 200 OK"));
    });
}

#[test]
fn an_engine_asks_the_name_servers_of_its_config_and_says_what_it_hears() {
    named(async || {
        let far = Far::start("our_bye", &[]).await;
        let gone = "_sip._udp.gone.test".to_owned();
        let names = NameServer::saying(&[format!("_sip._udp.carrier.test,localhost,{},1,1", far.port), gone]).await;
        let bench = Bench::with(|config| {
            config.dns.servers = vec![names.address];
            for (id, host, rtp_ports) in
                [("carrier", "carrier.test", 25_000..=25_009), ("gone", "gone.test", 25_010..=25_019)]
            {
                let sip = SipTrunk { rtp_ports, ..trunk(Transport::Udp, host) };
                let trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 4, ..Trunk::default() };
                config.trunks.insert(id.to_owned(), trunk);
            }
        });
        beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            bench.hangup(&sid).data();
            let offers_none = "gone.test offers no SIP over udp";
            let tested = bench.post("voice.trunks.test", &json!({"orgId": "org_a", "trunkId": "gone"})).data();
            assert_eq!((&tested["ok"], tested.get("address")), (&json!(false), None));
            for name in ["error", "advice"] {
                assert!(tested[name].as_str().unwrap().contains(offers_none), "{tested}");
            }
            let listed = bench.get("voice.trunks.list", &json!({"orgId": "org_a"})).data()["trunks"].clone();
            let row = |id: &str| listed.as_array().unwrap().iter().find(|row| row["trunkId"] == id).unwrap().clone();
            assert!(row("gone")["problem"].as_str().unwrap().contains(offers_none), "{listed}");
            assert!(row("carrier").get("problem").is_none(), "{listed}");
            let asked = json!({"orgId": "org_a", "to": "+15550001234", "from": "+15558675309", "trunkId": "gone"});
            let sid = bench.post("voice.calls.originate", &asked).data()["sid"].clone();
            let ended = bench.ended(sid.as_str().unwrap());
            assert_eq!((&ended["endReason"], ended.get("sipCode")), (&json!("network_error"), None), "{ended}");
            assert!(ended["sipPhrase"].as_str().unwrap().contains(offers_none), "{ended}");
        })
        .await;
        far.played().await;
    });
}
