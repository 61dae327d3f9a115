//! The command `test`, also written `[`.

use super::run::{LOOK, Run, Status};
use super::scope::{Scope, Value};
use crate::read::Kind;

/// Whether what the arguments say is so.
pub(super) fn test(run: &mut Run<'_, '_>, name: &str, args: &[Value], scope: &Scope<'_>) -> Status {
    let args = match args {
        [args @ .., Some(last)] if name == "[" && last == "]" => args,
        // GRUB takes one without its end as well.
        args => args,
    };
    // `-o` is weaker than `-a`, which is what stands between all others.
    let mut any = Status::No;
    for all in args.split(|arg| arg.as_deref() == Some("-o")) {
        let mut every = Status::Yes;
        for one in all.split(|arg| arg.as_deref() == Some("-a")) {
            every = and(every, primary(run, one, scope));
        }
        any = not(and(not(any), not(every)));
    }
    any
}

fn and(one: Status, other: Status) -> Status {
    match (one, other) {
        (Status::No, _) | (_, Status::No) => Status::No,
        (Status::Yes, Status::Yes) => Status::Yes,
        _ => Status::Unknown,
    }
}

fn not(status: Status) -> Status {
    match status {
        Status::Yes => Status::No,
        Status::No => Status::Yes,
        Status::Unknown => Status::Unknown,
    }
}

fn primary(run: &mut Run<'_, '_>, args: &[Value], scope: &Scope<'_>) -> Status {
    // As many as there are: to call itself for each would want a stack as large as the text.
    let signs = args.iter().take_while(|arg| arg.as_deref() == Some("!")).count().min(args.len().saturating_sub(1));
    let is_so = unsigned(run, args.get(signs..).unwrap_or_default(), scope);
    if signs.is_multiple_of(2) { is_so } else { not(is_so) }
}

/// What no `!` stands before.
fn unsigned(run: &mut Run<'_, '_>, args: &[Value], scope: &Scope<'_>) -> Status {
    match args {
        [] => Status::No,
        [Some(one)] => Status::of(!one.is_empty()),
        [Some(flag), Some(value)] => match flag.as_str() {
            "-n" => Status::of(!value.is_empty()),
            "-z" => Status::of(value.is_empty()),
            "-e" | "-f" | "-d" | "-s" => file(run, flag, value, scope),
            _ => Status::Unknown,
        },
        [Some(one), Some(sign), Some(other)] => compare(one, sign, other),
        _ => Status::Unknown,
    }
}

fn file(run: &mut Run<'_, '_>, flag: &str, path: &str, scope: &Scope<'_>) -> Status {
    if !run.work(LOOK) {
        return Status::Unknown;
    }
    let Some((_, _, metadata)) = run.disk.find(path, scope.get("root")) else { return Status::No };
    let is_directory = metadata.kind == Kind::Directory;
    Status::of(match flag {
        "-f" => !is_directory,
        "-d" => is_directory,
        "-s" => metadata.len > 0,
        _ => true,
    })
}

fn compare(one: &str, sign: &str, other: &str) -> Status {
    let numbers = || {
        let number = |text: &str| text.trim().parse::<i64>().ok();
        Some(number(one)?.cmp(&number(other)?))
    };
    let of_numbers =
        |is_so: fn(std::cmp::Ordering) -> bool| numbers().map_or(Status::Unknown, |order| Status::of(is_so(order)));
    match sign {
        "=" | "==" => Status::of(one == other),
        "!=" => Status::of(one != other),
        "<" => Status::of(one < other),
        "<=" => Status::of(one <= other),
        ">" => Status::of(one > other),
        ">=" => Status::of(one >= other),
        "-eq" => of_numbers(std::cmp::Ordering::is_eq),
        "-ne" => of_numbers(std::cmp::Ordering::is_ne),
        "-lt" => of_numbers(std::cmp::Ordering::is_lt),
        "-le" => of_numbers(std::cmp::Ordering::is_le),
        "-gt" => of_numbers(std::cmp::Ordering::is_gt),
        "-ge" => of_numbers(std::cmp::Ordering::is_ge),
        _ => Status::Unknown,
    }
}
