use super::{Random, TARGETS, target};

/// Of each target. `CLUTCHCALL_FUZZ_RUNS` asks for more.
const RUNS: u64 = 4_000;

fn runs() -> u64 {
    std::env::var("CLUTCHCALL_FUZZ_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(RUNS)
}

#[test]
fn every_target_takes_its_seeds_and_what_they_become() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        seeds.iter().for_each(|seed| (target.run)(seed));
        let mut random = Random::new(1);
        for run in 0..runs() {
            let input = random.input(&seeds);
            let caught = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(caught.is_ok(), "{} fails on run {run}: {input:02x?}", target.name);
        }
    }
}

#[test]
fn every_target_has_a_shim_for_the_fuzzer() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    for target in TARGETS {
        let shim = std::fs::read_to_string(folder.join(format!("{}.rs", target.name))).expect(target.name);
        assert!(shim.contains(&format!("{:?}", target.name)), "{shim}");
    }
    assert!(target("message").is_some() && target("").is_none());
}

/// What a fuzzer found once, by target.
#[test]
fn what_was_found_is_not_found_again() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz");
    for entry in std::fs::read_dir(folder).expect("the folder of finds") {
        let finds = entry.expect("readable").path();
        let name = finds.file_name().and_then(|name| name.to_str()).expect("a target's name").to_owned();
        let target = target(&name).expect(&name);
        for find in std::fs::read_dir(finds).expect("readable") {
            (target.run)(&std::fs::read(find.expect("readable").path()).expect("readable"));
        }
    }
}
