//! One target of the crate, as libFuzzer wants it.

pub use {clutchcall, libfuzzer_sys};

#[macro_export]
macro_rules! shim {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            // Every shim's name is checked by a test of the crate.
            let target = $crate::clutchcall::fuzz::target($name).expect("a target of this name");
            (target.run)(data);
        });
    };
}
