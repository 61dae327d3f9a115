//! What the fuzz targets share: the targets themselves, which the replay of `cargo test` has too, and a mutator of patches.

mod patches;
pub mod second_erofs;

#[path = "../../tests/replay/targets/mod.rs"]
mod targets;

pub use libfuzzer_sys;
pub use patches::mutate;

/// Does what the target of this name does with an input.
pub fn run(name: &str, input: &[u8]) {
    let _ = targets::seconds::EROFS.set(second_erofs::start);
    (targets::target(name).run)(input);
}

/// Writes the image that an input makes.
///
/// # Panics
/// If the target has no images, or the file cannot be written.
pub fn write_patched(target: &str, input: &[u8], out: &std::path::Path) {
    let bases = targets::images::bases(target);
    targets::images::patched(bases, input, |_, file, len| targets::images::save(file, len, out)).expect("a base");
}

/// The entry of one target.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::run($name, input));

        $crate::libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate($name, data, size, max_size, seed)
        });
    };
}
