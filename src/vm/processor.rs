//! Kinds of processors that QEMU has a machine for.

use std::fmt;

/// A kind of processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// PCs and most servers.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Processor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::X86_64, Self::Aarch64, Self::Arm, Self::Riscv64];

    /// As QEMU names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
        }
    }

    /// That of this machine, if it is one of these.
    pub fn of_host() -> Option<Self> {
        Self::ALL.into_iter().find(|processor| processor.name() == std::env::consts::ARCH)
    }

    /// QEMU for it.
    pub fn qemu(self) -> String {
        format!("qemu-system-{}", self.name())
    }

    /// The package of Debian that QEMU for it is in.
    pub fn qemu_in_debian(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86",
            Self::Aarch64 | Self::Arm => "qemu-system-arm",
            Self::Riscv64 => "qemu-system-misc",
        }
    }

    /// What UEFI starts from a disk that it does not know, by the UEFI specification, section 3.5.1.1.
    pub fn removable_program(self) -> &'static str {
        match self {
            Self::X86_64 => "BOOTX64.EFI",
            Self::Aarch64 => "BOOTAA64.EFI",
            Self::Arm => "BOOTARM.EFI",
            Self::Riscv64 => "BOOTRISCV64.EFI",
        }
    }

    /// What Linux calls the serial port of QEMU's machine.
    pub fn serial(self) -> &'static str {
        match self {
            Self::X86_64 | Self::Riscv64 => "ttyS0",
            Self::Aarch64 | Self::Arm => "ttyAMA0",
        }
    }

    /// By how Nix names systems, as in `aarch64-linux`.
    pub fn from_system(system: &str) -> Option<Self> {
        match system.trim().strip_suffix("-linux")? {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            "armv5tel" | "armv6l" | "armv7l" | "armv7a" => Some(Self::Arm),
            "riscv64" => Some(Self::Riscv64),
            _ => None,
        }
    }

    /// That of a Linux kernel that starts with these bytes; `None` if they do not say, as those of a compressed one.
    ///
    /// By Linux' Documentation/arch: arm64/booting, riscv/boot-image-header, x86/boot and arm/booting; and by Microsoft's "PE Format".
    pub fn of_kernel(start: &[u8]) -> Option<Self> {
        let has = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
        let headers = [
            (0x38, b"ARM\x64".as_slice(), Self::Aarch64),
            (0x38, b"RSC\x05", Self::Riscv64),
            (0x202, b"HdrS", Self::X86_64),
            (0x24, b"\x18\x28\x6f\x01", Self::Arm),
        ];
        let by_header = headers.iter().find(|(at, magic, _)| has(*at, magic)).map(|(.., processor)| *processor);
        by_header.or_else(|| match crate::pe::machine(start)? {
            0x8664 => Some(Self::X86_64),
            0xaa64 => Some(Self::Aarch64),
            0x01c0 | 0x01c2 | 0x01c4 => Some(Self::Arm),
            0x5064 => Some(Self::Riscv64),
            _ => None,
        })
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pe::program;

    #[test]
    fn kernels_say_what_they_are_for() {
        let kernel = |at: usize, magic: &[u8]| {
            let mut bytes = vec![0; 0x400];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            bytes
        };
        for (bytes, processor) in [
            (kernel(0x38, b"ARM\x64"), Some(Processor::Aarch64)),
            (kernel(0x38, b"RSC\x05"), Some(Processor::Riscv64)),
            (kernel(0x202, b"HdrS"), Some(Processor::X86_64)),
            (kernel(0x24, &0x016f_2818_u32.to_le_bytes()), Some(Processor::Arm)),
            // A compressed kernel that unpacks itself.
            (program(&[(".text", b"")]), Some(Processor::X86_64)),
            (kernel(0x39, b"ARM\x64"), None),
            (b"\x1f\x8b\x08".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(Processor::of_kernel(&bytes), processor);
        }
    }

    #[test]
    fn systems_have_their_processor() {
        assert_eq!(Processor::from_system("aarch64-linux\n"), Some(Processor::Aarch64));
        assert_eq!(Processor::from_system("armv7l-linux"), Some(Processor::Arm));
        assert_eq!(Processor::from_system("aarch64-darwin"), None);
        assert_eq!(Processor::from_system("i686-linux"), None);
    }
}
