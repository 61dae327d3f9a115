//! What an entry of GRUB's menu boots.

use super::super::FileReport;
use super::lexer::Word;
use super::run::Run;
use super::scope::{Scope, Value};

/// What is loaded so far.
#[derive(Default)]
pub(super) struct Boot {
    pub(super) kernel: Option<FileReport>,
    pub(super) initrds: Vec<FileReport>,
    pub(super) device_tree: Option<FileReport>,
    /// The parameters of Linux.
    pub(super) options: String,
    /// Whether the kernel is none of Linux, but gets it as a module.
    has_modules: bool,
}

/// An argument: how it is written, and its value.
type Arg<'w> = (&'w str, Option<&'w str>);

impl Boot {
    /// Does a command, if it is one that loads something.
    pub(super) fn take<'s>(
        &mut self,
        run: &mut Run<'s, '_>,
        name: &str,
        words: &'s [Word<'s>],
        args: &[Value],
        scope: &Scope<'_>,
    ) -> bool {
        let root = scope.get("root");
        let raws = words.iter().skip(1).map(|word| word.raw);
        let is_one_each = words.len() == args.len().saturating_add(1);
        let args: Vec<Arg<'_>> = if is_one_each {
            raws.zip(args).map(|(raw, value)| (raw, value.as_deref())).collect()
        } else {
            args.iter().map(|value| (value.as_deref().unwrap_or("?"), value.as_deref())).collect()
        };
        let flags = args.iter().take_while(|(raw, _)| raw.starts_with("--")).count();
        let args = args.get(flags..).unwrap_or_default();
        let mut file = |(raw, value): &Arg<'_>| run.file(raw, *value, root);
        match name {
            "linux" | "linux16" | "linuxefi" | "kernel" => {
                self.kernel = args.first().map(&mut file);
                self.options = text(args.get(1..).unwrap_or_default());
                self.has_modules = false;
            }
            "initrd" | "initrd16" | "initrdefi" => self.initrds = args.iter().map(file).collect(),
            "multiboot" | "multiboot2" | "xen_hypervisor" => {
                *self = Self { kernel: args.first().map(&mut file), has_modules: true, ..Self::default() };
            }
            "module" | "module2" | "xen_module" | "xen_linux" | "xen_initrd" => {
                if self.initrds.is_empty() && self.has_modules {
                    self.options = text(args.get(1..).unwrap_or_default());
                }
                self.initrds.extend(args.first().map(&mut file));
            }
            // A program for UEFI; `+1` is the first sector of a partition.
            "chainloader" => {
                let is_file = |arg: &&Arg<'_>| arg.1.is_none_or(|value| !value.contains('+'));
                *self = Self { kernel: args.first().filter(is_file).map(&mut file), ..Self::default() };
            }
            "devicetree" | "fdt" => self.device_tree = args.first().map(&mut file),
            _ => return false,
        }
        true
    }
}

/// Arguments as Linux gets them.
fn text(args: &[Arg<'_>]) -> String {
    args.iter().map(|(raw, value)| value.unwrap_or(raw)).collect::<Vec<_>>().join(" ")
}
