use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;

static KEY: LazyLock<SigningKey> = LazyLock::new(fresh);

fn fresh() -> SigningKey {
    SigningKey::generate(&ring::rand::SystemRandom::new()).unwrap().0
}

fn keys() -> KeySet {
    [KEY.public()].into_iter().collect()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn claims() -> Claims {
    Claims { sub: "org_1".into(), exp: NOW + 60, ns: patterns(&["voice/CA1/*"]), ..Claims::default() }
}

fn decode(token: &str) -> Result<Claims, TokenError> {
    Claims::decode(token.as_bytes(), &keys(), NOW, LEEWAY_S)
}

/// A token with this header and these claims, rightly signed.
fn sign(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = KEY.sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn what_is_encoded_is_decoded() {
    let full = Claims {
        iss: Some("clutchcall".into()),
        iat: Some(NOW),
        jti: Some("t1".into()),
        nbf: Some(NOW),
        publish: Some(patterns(&["voice/CA1/downlink"])),
        subscribe: Some(patterns(&["voice/CA1/uplink"])),
        lease: Some(Lease { track: "audio".into(), holder: "bridge-1".into(), epoch: 7 }),
        ..claims()
    };
    for claims in [claims(), full] {
        assert_eq!(decode(&claims.encode(&KEY)), Ok(claims));
    }
}

#[test]
fn the_example_of_rfc_8037_verifies() {
    // RFC 8037 appendix A.1 and A.4: the seed, the public key and a JWS over "Example of Ed25519 signing".
    let key: PublicKey = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".parse().unwrap();
    let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = URL_SAFE_NO_PAD
        .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
        .unwrap();
    assert!(key.verify(signed, &signature));
}

#[test]
fn the_algorithm_is_not_the_token_s_to_choose() {
    let body = serde_json::to_string(&claims()).unwrap();
    for alg in ["none", "None", "HS256", "ES256", "RS256", "eddsa", ""] {
        let token = sign(&format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#), &body);
        assert_eq!(decode(&token), Err(TokenError::Algorithm), "{alg}");
    }
    // HS256 keyed with the public key, the classic confusion; and an unsigned token.
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(&body));
    let mac_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, KEY.public().as_bytes());
    let mac = ring::hmac::sign(&mac_key, signed.as_bytes());
    assert_eq!(decode(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))), Err(TokenError::Algorithm));
    let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(&body));
    assert_eq!(decode(&none), Err(TokenError::Algorithm));
    let empty = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#), URL_SAFE_NO_PAD.encode(&body));
    assert_eq!(decode(&empty), Err(TokenError::Signature));
}

#[test]
fn the_key_is_chosen_among_ours_only() {
    let body = serde_json::to_string(&claims()).unwrap();
    assert_eq!(decode(&claims().encode(&fresh())), Err(TokenError::UnknownKey));
    assert!(decode(&sign(r#"{"alg":"EdDSA"}"#, &body)).is_ok(), "without a kid every key is tried");
    assert!(decode(&sign(r#"{"alg":"Ed25519"}"#, &body)).is_ok());
    let own_key = format!(r#"{{"alg":"EdDSA","kid":"{}","jwk":{{"kty":"OKP","x":"AA"}}}}"#, KEY.public().kid());
    assert!(decode(&sign(&own_key, &body)).is_ok(), "a key inside the token is not looked at");
    let two: KeySet = [fresh().public(), KEY.public()].into_iter().collect();
    assert!(Claims::decode(claims().encode(&KEY).as_bytes(), &two, NOW, 0).is_ok());
    assert_eq!(
        Claims::decode(claims().encode(&KEY).as_bytes(), &KeySet::default(), NOW, 0),
        Err(TokenError::UnknownKey)
    );
    let stolen_kid = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, KEY.public().kid());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(stolen_kid), URL_SAFE_NO_PAD.encode(&body));
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fresh().sign(signed.as_bytes())));
    assert_eq!(decode(&forged), Err(TokenError::Signature));
}

#[test]
fn critical_extensions_are_refused() {
    let body = serde_json::to_string(&claims()).unwrap();
    let token = sign(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#, &body);
    assert!(matches!(decode(&token), Err(TokenError::Malformed(_))));
}

#[test]
fn time_counts_with_its_leeway() {
    let token = claims().encode(&KEY);
    let at = |now| Claims::decode(token.as_bytes(), &keys(), now, LEEWAY_S).map(|_| ());
    assert_eq!(at(NOW + 60 + LEEWAY_S - 1), Ok(()));
    assert_eq!(at(NOW + 60 + LEEWAY_S), Err(TokenError::Expired));
    assert_eq!(at(u64::MAX), Err(TokenError::Expired));
    let later = Claims { nbf: Some(NOW + LEEWAY_S + 1), ..claims() }.encode(&KEY);
    assert_eq!(decode(&later), Err(TokenError::NotYetValid));
    assert!(Claims::decode(later.as_bytes(), &keys(), NOW + 1, LEEWAY_S).is_ok());
}

#[test]
fn dates_come_as_numbers_of_either_kind_and_nothing_else() {
    let with_exp = |exp: &str| sign(r#"{"alg":"EdDSA"}"#, &format!(r#"{{"sub":"o","exp":{exp}}}"#));
    for exp in ["1800000060", "1800000060.5", "1.80000006e9", "9007199254740993"] {
        assert!(decode(&with_exp(exp)).is_ok(), "{exp}");
    }
    for exp in ["-1", "1e300", "null", "\"1800000060\"", "true"] {
        assert!(matches!(decode(&with_exp(exp)), Err(TokenError::Malformed(_))), "{exp}");
    }
    assert!(matches!(decode(&sign(r#"{"alg":"EdDSA"}"#, r#"{"sub":"o"}"#)), Err(TokenError::Malformed(_))), "no end");
    let twice = r#"{"sub":"o","exp":1800000060,"exp":9000000000}"#;
    assert!(matches!(decode(&sign(r#"{"alg":"EdDSA"}"#, twice)), Err(TokenError::Malformed(_))));
}

#[test]
fn rights_are_separate_when_they_are_written_separately() {
    let both = claims();
    assert!(both.may_publish(&["voice", "CA1", "uplink"]) && both.may_subscribe(&["voice", "CA1", "uplink"]));
    let listener = Claims { publish: Some(vec![]), ..claims() };
    assert!(!listener.may_publish(&["voice", "CA1", "uplink"]) && listener.may_subscribe(&["voice", "CA1", "uplink"]));
    let speaker = Claims { subscribe: Some(patterns(&["voice/CA2/*"])), ..claims() };
    assert!(speaker.may_publish(&["voice", "CA1", "uplink"]) && !speaker.may_subscribe(&["voice", "CA1", "uplink"]));
    assert!(!Claims::default().may_subscribe::<&str>(&[]) && !Claims::default().may_publish(&["voice"]));
}

#[test]
fn patterns_match_fields_and_bytes() {
    let table: &[(&str, &[&str], bool)] = &[
        ("voice/a", &["voice", "a"], true),
        ("voice/a", &["voice", "ab"], false),
        ("voice/a", &["voice/a"], false),
        ("voice/a", &["voice"], false),
        ("voice/a", &["voice", "a", "b"], false),
        ("voice/*", &["voice", "ab"], true),
        ("voice/*", &["voice", "a/b"], true),
        ("voice/*", &["voice", "a", "b"], false),
        ("*/a", &["x", "a"], true),
        ("voice/**", &["voice"], true),
        ("voice/**", &["voice", "a", "b"], true),
        ("voice/**", &["voicex"], false),
        ("**", &[], true),
        ("*", &[], false),
        ("voice/a*", &["voice", "ab"], false),
        ("voice/a*", &["voice", "a*"], true),
        ("Voice", &["voice"], false),
    ];
    for (pattern, namespace, matches) in table {
        assert_eq!(pattern.parse::<Pattern>().unwrap().matches(namespace), *matches, "{pattern} {namespace:?}");
    }
    assert!("voice/*".parse::<Pattern>().unwrap().matches(&[&b"voice"[..], &b"\xff\x00"[..]]));
}

#[test]
fn patterns_that_could_be_misread_are_refused() {
    for text in ["", "/", "voice/", "/voice", "voice//a"] {
        assert_eq!(text.parse::<Pattern>(), Err(PatternError::EmptyField), "{text:?}");
    }
    for text in ["**/a", "voice/**/a", "**/**"] {
        assert_eq!(text.parse::<Pattern>(), Err(PatternError::RestNotLast), "{text:?}");
    }
    assert_eq!(["a"; 33].join("/").parse::<Pattern>(), Err(PatternError::TooManyFields));
    let token = sign(r#"{"alg":"EdDSA"}"#, r#"{"sub":"o","exp":1800000060,"ns":["voice/**/a"]}"#);
    assert!(matches!(decode(&token), Err(TokenError::Malformed(_))));
}

#[test]
fn a_key_has_one_text_and_one_id() {
    let key: PublicKey = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".parse().unwrap();
    assert_eq!(key.to_string(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!((key.kid().len(), key.to_string().parse()), (8, Ok(key)));
    // sha256 of the 32 bytes, by another implementation: RFC 8032 §7.1 TEST 1's public key.
    assert_eq!(key.kid(), "21fe31df");
    for text in ["", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUR", "11qYAYKxCrfVS+7TyWQHOg7hcvPapiMlrwIaaPcHURo"] {
        assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Public), "{text:?}");
    }
    let (key, document) = SigningKey::generate(&ring::rand::SystemRandom::new()).unwrap();
    assert_eq!(SigningKey::from_pkcs8(&document).unwrap().public(), key.public());
    assert_eq!(SigningKey::from_pkcs8(b"not a key").unwrap_err(), KeyError::Signing);
    assert!(!format!("{key:?}").contains(&URL_SAFE_NO_PAD.encode(&document)));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let token = claims().encode(&KEY);
    for length in 0..token.len() {
        assert!(decode(&token[..length]).is_err(), "{length}");
    }
    for i in 0..token.len() * 8 {
        let mut bytes = token.clone().into_bytes();
        bytes[i / 8] ^= 1 << (i % 8);
        assert!(Claims::decode(&bytes, &keys(), NOW, LEEWAY_S).is_err(), "bit {i}");
    }
    assert_eq!(
        Claims::decode(&vec![b'a'; MAX_TOKEN_BYTES + 1], &keys(), NOW, 0),
        Err(TokenError::Malformed("it is too long"))
    );
}

proptest! {
    #[test]
    fn noise_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Claims::decode(&bytes, &keys(), NOW, LEEWAY_S).is_err());
    }

    #[test]
    fn signed_noise_is_an_error_and_never_a_panic(header in ".{0,60}", body in ".{0,60}") {
        prop_assert!(decode(&sign(&header, &body)).is_err());
    }

    /// A pattern of literals is the namespace itself and matches nothing else.
    #[test]
    fn literals_match_themselves_only(
        a in proptest::collection::vec("[a-z*]{1,3}", 1..5),
        b in proptest::collection::vec("[a-z*]{1,3}", 1..5),
    ) {
        prop_assume!(!a.iter().any(|field| field == "*" || field == "**"));
        let pattern: Pattern = a.join("/").parse().unwrap();
        prop_assert!(pattern.matches(&a));
        prop_assert_eq!(pattern.matches(&b), a == b);
    }
}

#[test]
fn a_key_may_have_a_name_and_a_token_names_it() {
    let named = KeySet::read(&format!("# two keys\n\nmain {}  # ours\n{}\n", KEY.public(), fresh().public())).unwrap();
    let token = claims().encode_as(&KEY, Some("main"));
    assert_eq!(Claims::decode(token.as_bytes(), &named, NOW, LEEWAY_S), Ok(claims()));
    assert_eq!(decode(&token), Err(TokenError::UnknownKey), "there it has the name of its bytes");
    assert_eq!(Claims::decode(claims().encode(&KEY).as_bytes(), &named, NOW, 0), Err(TokenError::UnknownKey));
    for (text, word) in [("\nshort", "line 2"), ("a b c", "KID KEY")] {
        assert!(KeySet::read(text).unwrap_err().contains(word), "{text}");
    }
}

#[test]
fn a_peek_verifies_nothing_and_panics_never() {
    let token = sign(r#"{"alg":"none"}"#, r#"{"sub":"x"}"#);
    let (header, claims) = peek(&token).unwrap();
    assert_eq!((header["alg"].as_str(), claims["sub"].as_str()), (Some("none"), Some("x")));
    for text in ["", ".", "..", "a.b.c", "a.b.c.d", "bnVsbA.bnVsbA.x"] {
        assert!(peek(text).is_err(), "{text}");
    }
}

#[test]
fn a_token_is_revoked_by_its_name_its_owner_or_its_bytes() {
    let hash = [0xab; 32];
    let token = Claims { jti: Some("7".into()), ..claims() };
    for (line, named) in [
        ("jti 7", true),
        ("jti 77", false),
        ("sub org_1", true),
        ("sub org_2", false),
        (&format!("sha256 {}", "ab".repeat(32)), true),
        (&format!("sha256 {}", "ac".repeat(32)), false),
        ("# jti 7", false),
        ("", false),
    ] {
        let revoked = Revoked::read(&format!("\n# a list\n {line}\r\n")).unwrap();
        assert_eq!(revoked.names(&token, &hash), named, "{line}");
    }
    for line in ["7", "kid 7", "sha256 abc", "jti"] {
        assert!(Revoked::read(line).unwrap_err().contains("line 1"), "{line}");
    }
}
