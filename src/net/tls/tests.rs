use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::minted::LIFE;
use super::*;

#[test]
fn a_loopback_identity_is_the_same_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let first = Identity::loopback(&state).expect("minted");
    let second = Identity::loopback(&state).expect("read");
    assert!(first.is_self_signed());
    assert_eq!(first.certificate_hash(), second.certificate_hash());
    assert_eq!(first.quic_keys().connection_id_key(), second.quic_keys().connection_id_key());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for file in ["certificate.pem", "key.pem", "quic.key"] {
        assert_eq!(mode(&state.join(file)), 0o600);
    }
    let from_pem = Identity::from_pem(&state.join("certificate.pem"), &state.join("key.pem"), &state);
    assert_eq!(from_pem.expect("the same files").certificate_hash(), first.certificate_hash());
}

#[test]
fn a_certificate_near_its_end_is_replaced_and_the_quic_keys_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Identity::loopback(folder.path()).expect("minted");
    let old = Minted::new(now() - (LIFE - RENEW)).expect("minted in the past");
    fs::write(folder.path().join("certificate.pem"), &old.certificate_pem).expect("written");
    fs::write(folder.path().join("key.pem"), &old.key_pem).expect("written");
    let renewed = Identity::loopback(folder.path()).expect("minted again");
    assert_ne!(renewed.certificate_hash(), certificate::sha256(&old.certificate));
    assert_eq!(first.quic_keys().connection_id_key(), renewed.quic_keys().connection_id_key());
    let facts = certificate::Facts::of(&renewed.0.current.0.load().cert[0]).expect("a certificate");
    assert!(facts.not_after - facts.not_before <= LIFE);
}

#[test]
fn errors_name_the_file_and_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("chain.pem");
    let error = Identity::from_pem(&missing, &missing, folder.path()).expect_err("there is no file");
    assert!(error.contains("chain.pem") && error.contains("PEM"), "{error}");
    fs::write(folder.path().join("quic.key"), b"short").expect("written");
    let error = Identity::loopback(folder.path()).expect_err("a damaged key file");
    assert!(error.contains("quic.key") && error.contains("delete"), "{error}");
}

#[test]
fn a_running_server_takes_the_certificate_that_replaces_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let put = |minted: &Minted| {
        fs::write(file("chain.pem"), &minted.certificate_pem).expect("written");
        fs::write(file("chain.key"), &minted.key_pem).expect("written");
    };
    let (old, new) = (Minted::new(now()).expect("minted"), Minted::new(now()).expect("minted"));
    put(&old);
    let identity = Identity::from_pem(&file("chain.pem"), &file("chain.key"), &file("state")).expect("read");
    assert_eq!(identity.renew(), Ok(false), "nothing has changed");
    fs::write(file("chain.pem"), &new.certificate_pem).expect("written");
    let error = identity.renew().expect_err("the key is still the old one");
    assert!(error.contains("don't fit"), "{error}");
    assert_eq!(identity.certificate_hash(), certificate::sha256(&old.certificate), "the old pair goes on");
    put(&new);
    assert_eq!(identity.clone().renew(), Ok(true));
    assert_eq!(identity.certificate_hash(), certificate::sha256(&new.certificate));
}

#[test]
fn a_running_server_mints_anew_before_its_certificate_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = Minted::new(now() - (LIFE - RENEW)).expect("minted in the past");
    let quic = QuicKeys::random().expect("random");
    let source = Source::Loopback(folder.path().to_owned());
    let identity = Identity::new(source, old.into(), quic).expect("an identity");
    assert_eq!(identity.renew(), Ok(true));
    assert_eq!(identity.renew(), Ok(false), "the new one is fresh");
    let kept = Identity::loopback(folder.path()).expect("read");
    assert_eq!(kept.certificate_hash(), identity.certificate_hash(), "a restarted server shows the same");
}
