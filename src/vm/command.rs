//! QEMU's command line.

use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU16, NonZeroU32};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use super::{Blob, Firmware, Guest, Processor, Start};

/// What carries out the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself; QEMU goes on by emulation if the kernel refuses after all.
    Kvm,
    /// Emulation.
    Tcg,
}

/// What the disk hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// NVMe, whose driver is in the initrd of every NixOS that does not forbid it.
    Nvme,
    /// Virtio, whose driver is in the initrds of systems for virtual machines.
    Virtio,
}

/// Whether there is a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// The serial port is all that there is.
    None,
    /// A window with a screen, keyboard and mouse.
    Window,
}

/// What the guest's serial port is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// The terminal, which QEMU's monitor shares: Ctrl-A is for QEMU.
    Terminal,
    /// Standard input and output, byte by byte.
    Streams,
}

/// What becomes of what the guest writes to its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It goes to a temporary file of QEMU's, without a name; the disk's own is not touched.
    Aside,
    /// It goes to the disk's own file, of which nobody wants to know later.
    Forgotten,
    /// It goes to the disk's own file, and stays.
    Kept,
}

/// The disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// The file: an absolute path, since QEMU takes what comes before a colon for a protocol.
    pub file: PathBuf,
    /// As QEMU names its form.
    pub format: &'static str,
    /// What becomes of writes.
    pub writes: Writes,
}

/// A port of this machine that leads to one of the guest, by TCP. Only this machine itself may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    host: NonZeroU16,
    guest: NonZeroU16,
}

impl FromStr for Forward {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ports = text.split_once(':').and_then(|(host, guest)| Some((host.parse().ok()?, guest.parse().ok()?)));
        let (host, guest) = ports.ok_or("it must be HOST:GUEST, two ports from 1 to 65535, as in 2222:22")?;
        Ok(Self { host, guest })
    }
}

/// How the machine is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory, in MiB.
    pub memory: NonZeroU32,
    /// Processors.
    pub cpus: NonZeroU32,
    /// Ports.
    pub forwards: Vec<Forward>,
    /// A window or none.
    pub screen: Screen,
    /// The serial port.
    pub serial: Serial,
    /// The disk's bus.
    pub bus: Bus,
    /// What runs it.
    pub accelerator: Accelerator,
    /// More arguments for QEMU.
    pub more: Vec<OsString>,
}

impl Options {
    /// The accelerator that the user's own arguments for QEMU name, if they do.
    pub fn accelerator_in(more: &[OsString]) -> Option<Accelerator> {
        let by_option =
            more.iter().position(|word| word == "-accel" || word == "--accel").and_then(|at| more.get(at + 1));
        let by_machine = || {
            let words = more.iter().filter_map(|word| word.to_str());
            words.flat_map(|word| word.split(',')).find_map(|part| part.strip_prefix("accel=")).map(OsStr::new)
        };
        let named = by_option.map(OsString::as_os_str).or_else(by_machine)?;
        let is_kvm = named.to_str().is_some_and(|name| name.starts_with("kvm"));
        Some(if is_kvm { Accelerator::Kvm } else { Accelerator::Tcg })
    }
}

/// The arguments with which QEMU boots a guest from a disk.
pub fn arguments(guest: &Guest, firmware: &Firmware, drive: &Drive, options: &Options) -> Vec<OsString> {
    let mut line = Line(Vec::new());
    line.words(["-nodefaults", "-no-user-config"]);
    machine(&mut line, guest, options);
    boot(&mut line, firmware);
    disk(&mut line, guest, drive, options.bus);
    let forwards = options.forwards.iter();
    let forwards = forwards.map(|forward| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest));
    line.words(["-netdev", &format!("user,id=net{}", forwards.collect::<String>())]);
    // Without the program that boots from a network, which some packages of QEMU do not have.
    line.words(["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]);
    match options.serial {
        Serial::Terminal => line.words(["-serial", "mon:stdio"]),
        Serial::Streams => line.words(["-serial", "stdio", "-monitor", "none"]),
    }
    screen(&mut line, guest.processor, options.screen);
    line.0.extend(options.more.iter().cloned());
    line.0
}

fn machine(line: &mut Line, guest: &Guest, options: &Options) {
    let is_kvm = options.accelerator == Accelerator::Kvm;
    line.words([
        "-machine",
        match guest.processor {
            // Then QEMU's BIOS has its screen on the serial port, and with it the boot loader's menu.
            Processor::X86_64 if guest.start == Start::Bios && options.screen == Screen::None => "q35,graphics=off",
            Processor::X86_64 => "q35",
            // The interrupt controller that the host has, too.
            Processor::Aarch64 if is_kvm => "virt,gic-version=max",
            _ => "virt",
        },
    ]);
    if Options::accelerator_in(&options.more).is_none() {
        line.words(if is_kvm { &["-accel", "kvm", "-accel", "tcg"][..] } else { &["-accel", "tcg"] }.iter().copied());
    }
    let cpu = match guest.processor {
        Processor::X86_64 => Some("max"),
        Processor::Aarch64 if is_kvm => Some("max"),
        // What newer ones have takes twice the time to emulate.
        Processor::Aarch64 => Some("cortex-a57"),
        Processor::Arm => Some("cortex-a15"),
        Processor::Riscv64 => None,
    };
    line.words(cpu.iter().flat_map(|cpu| ["-cpu", cpu]));
    line.words(["-m", &options.memory.to_string(), "-smp", &options.cpus.to_string()]);
}

fn boot(line: &mut Line, firmware: &Firmware) {
    match firmware {
        Firmware::Flash { code, variables } => {
            line.flash(0, "readonly=on", code);
            if let Some(variables) = variables {
                line.flash(1, "snapshot=on", variables);
            }
        }
        Firmware::Bios(file) => line.0.extend(["-bios".into(), file.into()]),
        Firmware::Kernel(file) => line.0.extend(["-kernel".into(), file.into()]),
        Firmware::BuiltIn => {}
    }
}

fn disk(line: &mut Line, guest: &Guest, drive: &Drive, bus: Bus) {
    let how = match drive.writes {
        Writes::Aside => ",snapshot=on,cache=unsafe",
        Writes::Forgotten => ",cache=unsafe",
        Writes::Kept => "",
    };
    // Else QEMU takes the size of a disk of some VHDs from its geometry, which is less.
    let size = if drive.format == "vpc" { ",force_size_calc=current_size" } else { "" };
    let start = format!("if=none,id=disk,format={}{size}{how},file=", drive.format);
    line.file("-drive", &start, drive.file.as_os_str());
    let bus = match bus {
        Bus::Nvme => "nvme,serial=sane-image",
        Bus::Virtio => "virtio-blk-pci",
    };
    let size = guest.sector_size.bytes();
    let sectors = format!("logical_block_size={size},physical_block_size={size}");
    line.words(["-device", &format!("{bus},drive=disk,bootindex=0,{sectors}")]);
}

fn screen(line: &mut Line, processor: Processor, screen: Screen) {
    if screen == Screen::None {
        return line.words(["-display", "none"]);
    }
    line.words(["-device", if processor == Processor::X86_64 { "VGA" } else { "virtio-gpu-pci" }]);
    line.words(["-device", "qemu-xhci", "-device", "usb-kbd", "-device", "usb-tablet"]);
}

struct Line(Vec<OsString>);

impl Line {
    fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    /// An option whose value ends in the name of a file.
    fn file(&mut self, option: &str, start: &str, name: &OsStr) {
        // A comma would end the name.
        let doubled = |&byte: &u8| std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 });
        let value = start.bytes().chain(name.as_bytes().iter().flat_map(doubled)).collect();
        self.0.extend([option.into(), OsString::from_vec(value)]);
    }

    fn flash(&mut self, unit: u8, how: &str, blob: &Blob) {
        let start = format!("if=pflash,unit={unit},format={},{how},file=", blob.format);
        self.file("-drive", &start, blob.path.as_os_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SectorSize;
    use crate::vm::Start;

    fn options() -> Options {
        Options {
            memory: NonZeroU32::new(2048).unwrap(),
            cpus: NonZeroU32::new(2).unwrap(),
            forwards: Vec::new(),
            screen: Screen::None,
            serial: Serial::Streams,
            bus: Bus::Nvme,
            accelerator: Accelerator::Tcg,
            more: Vec::new(),
        }
    }

    fn line(processor: Processor, firmware: &Firmware, sector_size: u64, drive: &Drive, options: &Options) -> String {
        let sector_size = SectorSize::new(sector_size).unwrap();
        let start = if *firmware == Firmware::BuiltIn { Start::Bios } else { Start::Uefi };
        let guest = Guest { processor, start, sector_size, consoles: None };
        let words = arguments(&guest, firmware, drive, options);
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ").replace(" -", "\n-")
    }

    fn flash() -> Firmware {
        let blob = |path: &str, format: &str| Blob { path: path.into(), format: format.to_owned() };
        Firmware::Flash { code: blob("/fw/code,1", "raw"), variables: Some(blob("/fw/vars", "qcow2")) }
    }

    fn drive(format: &'static str, writes: Writes) -> Drive {
        Drive { file: "/a,b c.img".into(), format, writes }
    }

    #[test]
    fn a_pc_with_uefi() {
        let found = line(Processor::X86_64, &flash(), 512, &drive("raw", Writes::Aside), &options());
        insta::assert_snapshot!(found, @r"
        -nodefaults
        -no-user-config
        -machine q35
        -accel tcg
        -cpu max
        -m 2048
        -smp 2
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/fw/code,,1
        -drive if=pflash,unit=1,format=qcow2,snapshot=on,file=/fw/vars
        -drive if=none,id=disk,format=raw,snapshot=on,cache=unsafe,file=/a,,b c.img
        -device nvme,serial=sane-image,drive=disk,bootindex=0,logical_block_size=512,physical_block_size=512
        -netdev user,id=net
        -device virtio-net-pci,netdev=net,romfile=
        -device virtio-rng-pci
        -serial stdio
        -monitor none
        -display none
        ");
    }

    #[test]
    fn a_pc_with_a_bios() {
        let found = line(Processor::X86_64, &Firmware::BuiltIn, 512, &drive("raw", Writes::Aside), &options());
        insta::assert_snapshot!(found, @r"
        -nodefaults
        -no-user-config
        -machine q35,graphics=off
        -accel tcg
        -cpu max
        -m 2048
        -smp 2
        -drive if=none,id=disk,format=raw,snapshot=on,cache=unsafe,file=/a,,b c.img
        -device nvme,serial=sane-image,drive=disk,bootindex=0,logical_block_size=512,physical_block_size=512
        -netdev user,id=net
        -device virtio-net-pci,netdev=net,romfile=
        -device virtio-rng-pci
        -serial stdio
        -monitor none
        -display none
        ");
        let options = Options { screen: Screen::Window, ..options() };
        let found = line(Processor::X86_64, &Firmware::BuiltIn, 512, &drive("raw", Writes::Aside), &options);
        assert!(found.contains("-machine q35\n") && found.contains("-device VGA\n"), "{found}");
    }

    #[test]
    fn a_board_with_u_boot_and_large_sectors() {
        let firmware = Firmware::Bios("/u-boot.bin".into());
        let options = Options { serial: Serial::Terminal, bus: Bus::Virtio, ..options() };
        let found = line(Processor::Aarch64, &firmware, 4096, &drive("qcow2", Writes::Kept), &options);
        insta::assert_snapshot!(found, @r"
        -nodefaults
        -no-user-config
        -machine virt
        -accel tcg
        -cpu cortex-a57
        -m 2048
        -smp 2
        -bios /u-boot.bin
        -drive if=none,id=disk,format=qcow2,file=/a,,b c.img
        -device virtio-blk-pci,drive=disk,bootindex=0,logical_block_size=4096,physical_block_size=4096
        -netdev user,id=net
        -device virtio-net-pci,netdev=net,romfile=
        -device virtio-rng-pci
        -serial mon:stdio
        -display none
        ");
    }

    #[test]
    fn a_window_ports_and_kvm() {
        let options = Options {
            forwards: vec!["2222:22".parse().unwrap(), "8080:80".parse().unwrap()],
            screen: Screen::Window,
            accelerator: Accelerator::Kvm,
            more: vec!["-snapshot".into()],
            ..options()
        };
        let found = line(Processor::Aarch64, &flash(), 512, &drive("vpc", Writes::Aside), &options);
        insta::assert_snapshot!(found, @r"
        -nodefaults
        -no-user-config
        -machine virt,gic-version=max
        -accel kvm
        -accel tcg
        -cpu max
        -m 2048
        -smp 2
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/fw/code,,1
        -drive if=pflash,unit=1,format=qcow2,snapshot=on,file=/fw/vars
        -drive if=none,id=disk,format=vpc,force_size_calc=current_size,snapshot=on,cache=unsafe,file=/a,,b c.img
        -device nvme,serial=sane-image,drive=disk,bootindex=0,logical_block_size=512,physical_block_size=512
        -netdev user,id=net,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80
        -device virtio-net-pci,netdev=net,romfile=
        -device virtio-rng-pci
        -serial stdio
        -monitor none
        -device virtio-gpu-pci
        -device qemu-xhci
        -device usb-kbd
        -device usb-tablet
        -snapshot
        ");
    }

    #[test]
    fn risc_v_has_u_boot_behind_its_own_firmware() {
        let firmware = Firmware::Kernel("/u-boot.bin".into());
        let found = line(Processor::Riscv64, &firmware, 512, &drive("raw", Writes::Forgotten), &options());
        insta::assert_snapshot!(found, @r"
        -nodefaults
        -no-user-config
        -machine virt
        -accel tcg
        -m 2048
        -smp 2
        -kernel /u-boot.bin
        -drive if=none,id=disk,format=raw,cache=unsafe,file=/a,,b c.img
        -device nvme,serial=sane-image,drive=disk,bootindex=0,logical_block_size=512,physical_block_size=512
        -netdev user,id=net
        -device virtio-net-pci,netdev=net,romfile=
        -device virtio-rng-pci
        -serial stdio
        -monitor none
        -display none
        ");
    }

    #[test]
    fn the_users_accelerator_is_the_only_one() {
        let named = |words: &[&str]| {
            let more: Vec<_> = words.iter().map(OsString::from).collect();
            let line = line(
                Processor::X86_64,
                &Firmware::BuiltIn,
                512,
                &drive("raw", Writes::Aside),
                &Options { more: more.clone(), ..options() },
            );
            (Options::accelerator_in(&more), line.matches("-accel").count())
        };
        assert_eq!(named(&["-accel", "tcg,thread=single"]), (Some(Accelerator::Tcg), 1));
        assert_eq!(named(&["-accel", "kvm"]), (Some(Accelerator::Kvm), 1));
        assert_eq!(named(&["-machine", "pc,accel=kvm:tcg"]), (Some(Accelerator::Kvm), 0));
        assert_eq!(named(&["-s"]), (None, 1));
    }

    #[test]
    fn ports_are_numbers_from_one() {
        assert_eq!(
            "2222:22".parse::<Forward>().map(|forward| (forward.host.get(), forward.guest.get())),
            Ok((2222, 22))
        );
        for text in
            ["2222", "2222:", ":22", "0:22", "22:0", "65536:22", "a:22", "2222:22:22", "2222-22", "-1:22", " 1:2"]
        {
            assert!(text.parse::<Forward>().is_err(), "{text}");
        }
    }
}
