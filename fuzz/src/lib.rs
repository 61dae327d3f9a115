//! What the fuzz targets share: the targets themselves, which the replay of `cargo test` has too, and a mutator of patches.

mod patches;

#[path = "../../tests/replay/targets/mod.rs"]
pub mod targets;

pub use libfuzzer_sys;
pub use patches::mutate;

/// The entry of one target.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| ($crate::targets::target($name).run)(input));

        $crate::libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate($name, data, size, max_size, seed)
        });
    };
}
