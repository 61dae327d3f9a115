//! SBAT: lines that name the components of a program and their generations, by which shim refuses those that became
//! insecure. Source: shim's SBAT.md. Pure.

/// What every SBAT starts with, and what a unified kernel image is as a component: as ukify(1) has it by default.
const OWN: [&str; 2] = [
    "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md",
    "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/",
];

/// The lines of these texts, and then [`OWN`]; of two that name one component, the one of the higher generation.
pub(super) fn merge(texts: &[&str]) -> String {
    let mut merged: Vec<&str> = Vec::new();
    let lines = texts.iter().flat_map(|text| text.trim_matches('\0').lines()).chain(OWN);
    for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
        match merged.iter_mut().find(|other| component(other).0 == component(line).0) {
            Some(other) if component(other).1 < component(line).1 => *other = line,
            Some(_) => {}
            None => merged.push(line),
        }
    }
    merged.iter().map(|line| format!("{line}\n")).collect()
}

/// The name of a component and its generation.
fn component(line: &str) -> (&str, u32) {
    let (name, rest) = line.split_once(',').unwrap_or((line, ""));
    (name, rest.split(',').next().and_then(|generation| generation.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_component_comes_once() {
        let stub = "sbat,1,SBAT Version,sbat,1,x\nsystemd-stub,1,The systemd Developers,systemd,262,x\n\0\0";
        let kernel = "sbat,2,SBAT Version,sbat,1,y\nlinux,1,Linux,linux,6.18,x\n";
        let lines = merge(&[stub, kernel]);
        let names: Vec<_> = lines.lines().map(component).collect();
        assert_eq!(names, [("sbat", 2), ("systemd-stub", 1), ("linux", 1), ("uki", 1)]);
        assert_eq!(merge(&[]).lines().collect::<Vec<_>>(), OWN);
    }
}
