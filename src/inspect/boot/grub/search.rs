//! The command `search`, which finds a partition.

use super::run::{LOOK, Run, Status};
use super::scope::{Scope, Value};
use crate::read::escape;

/// What a partition is known by.
#[derive(Clone, Copy)]
enum By {
    Uuid,
    Label,
    File,
}

/// Sets a variable to the first partition that is meant.
pub(super) fn search(run: &mut Run<'_, '_>, name: &str, args: &[Value], scope: &mut Scope<'_>) -> Status {
    let mut by = match name {
        "search.fs_uuid" => By::Uuid,
        "search.fs_label" => By::Label,
        _ => By::File,
    };
    let mut variable = "root".to_owned();
    let mut rest = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(arg) = arg.as_deref() else {
            rest.push(None);
            continue;
        };
        match arg {
            "--fs-uuid" | "-u" => by = By::Uuid,
            "--label" | "-l" | "--fs-label" => by = By::Label,
            "--file" | "-f" => by = By::File,
            "--hint" | "-h" => drop(args.next()),
            arg if arg.starts_with("--hint-") && !arg.contains('=') => drop(args.next()),
            arg if arg.starts_with('-') => {
                if let Some(name) = arg.strip_prefix("--set=") {
                    name.clone_into(&mut variable);
                }
            }
            arg => rest.push(Some(arg)),
        }
    }
    let mut rest = rest.into_iter();
    let Some(wanted) = rest.next() else { return Status::Unknown };
    if let Some(Some(named)) = rest.next()
        && name != "search"
    {
        named.clone_into(&mut variable);
    }
    let Some(wanted) = wanted else {
        scope.set(&variable, None);
        return Status::Unknown;
    };
    let each = if matches!(by, By::File) { LOOK } else { wanted.len() };
    if !run.work(run.disk.volumes().count().saturating_mul(each)) {
        return Status::Unknown;
    }
    let is_meant = |number: u32, uuid: &str, label: &str| match by {
        By::Uuid => uuid.eq_ignore_ascii_case(wanted),
        By::Label => label == wanted,
        By::File => run.disk.find_on(number, wanted).is_some(),
    };
    let found = run.disk.volumes().find(|volume| {
        let summary = volume.fs.summary();
        is_meant(volume.number, &summary.uuid, &summary.label)
    });
    if let Some(device) = found.map(|volume| run.disk.device(volume.number)) {
        scope.set(&variable, Some(device));
        return Status::Yes;
    }
    let what = match by {
        By::Uuid => "filesystem has the UUID",
        By::Label => "filesystem has the label",
        By::File => "filesystem has the file",
    };
    run.miss(format!("no {what} {}", escape::text(wanted)));
    Status::No
}
