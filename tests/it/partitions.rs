//! Partitions beside the ESP and the nix filesystem, a hybrid MBR, and the room that the ESP has left.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::judge;
use crate::support::closure::{Closure, ClosureBuilder};
use crate::support::image::{Built, build_command, run, sane_image};
use crate::support::oracle;
use crate::support::tool::{self, need, tool};
use crate::support::tree::Entry;

const MIB: u64 = 1 << 20;
const CHROMEOS_KERNEL: &str = "fe3a2a5d-4f32-41a7-b725-accc3285a309";
const SWAP: &str = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
/// Priority 10, 5 tries, successful.
const DEPTHCHARGE: u64 = 1 << 56 | 5 << 52 | 10 << 48;

/// Contents of an odd length, with a hole in them.
fn kernel() -> Vec<u8> {
    let mut bytes = vec![0; 3 << 20];
    bytes.iter_mut().step_by(4096 * 3).zip(1..).for_each(|(byte, n): (_, u32)| *byte = n.to_le_bytes()[0] | 1);
    bytes.truncate((2 << 20) + 777);
    bytes
}

/// A closure whose spec has a platform partition, a swap partition and whatever `change` makes of it.
fn closure(change: impl FnOnce(&mut Value) + 'static) -> Closure {
    let builder = ClosureBuilder::new().path("platform", Entry::dir([("kernel.bin", Entry::file(kernel()))]));
    let kernel = format!("{}/kernel.bin", builder.store_path("platform"));
    // By way of a link, as toplevels have them.
    let builder = builder.path("links", Entry::dir([("kernel", Entry::symlink(&kernel))]));
    let contents = format!("{}/kernel", builder.store_path("links"));
    builder
        .spec(move |spec| {
            spec["extraPartitions"] = json!([
                { "name": "swap", "typeGuid": SWAP, "size": 5 * MIB + 1, "uuid": "11111111-2222-4333-8444-555555555555" },
                {
                    "name": "platform", "typeGuid": CHROMEOS_KERNEL, "attributes": DEPTHCHARGE,
                    "size": 4 * MIB, "contents": contents, "place": "beforeBoot",
                },
            ]);
            change(spec);
        })
        .write()
}

fn read(built: &Built, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open(&built.image).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

#[test]
fn extra_partitions_lie_before_and_after_the_esp() {
    let closure = closure(|_| {});
    let built = Built::new(&closure, &[]);
    judge::judge(&closure, &built);
    let partitions = built.layout["partitions"].as_array().unwrap();
    let roles: Vec<_> = partitions.iter().map(|p| (p["role"].as_str().unwrap(), p["name"].as_str().unwrap())).collect();
    assert_eq!(roles, [("extra", "platform"), ("boot", "EFI System"), ("extra", "swap"), ("nix", "Linux filesystem")]);
    let (platform, swap) = (&partitions[0], &partitions[2]);
    assert_eq!((&platform["size"], &swap["size"]), (&json!(4 * MIB), &json!(6 * MIB)));
    assert_eq!(platform["filesystem"], Value::Null);

    let mut expected = kernel();
    expected.resize(4 << 20, 0);
    assert!(read(&built, platform["offset"].as_u64().unwrap(), 4 << 20) == expected, "the contents as they are");
    let swap = read(&built, swap["offset"].as_u64().unwrap(), 6 << 20);
    assert!(swap[..4096].ends_with(b"SWAPSPACE2") && swap[4096..].iter().all(|&byte| byte == 0));

    if need("fdisk") {
        let columns = ["-o", "Device,Type-UUID,UUID,Attrs", "-l"];
        let listed = String::from_utf8(tool::run(tool("fdisk").args(columns).arg(&built.image))).unwrap();
        let line =
            |number: u64| listed.lines().find(|line| line.contains(&format!(".img{number} "))).unwrap().to_owned();
        assert!(line(1).contains(&CHROMEOS_KERNEL.to_uppercase()), "{listed}");
        assert!(line(1).ends_with("GUID:49,51,52,54,56"), "{listed}");
        assert!(line(3).contains("11111111-2222-4333-8444-555555555555"), "{listed}");
    }
}

/// As vboot reads the table, by which depthcharge chooses what it starts: the partition of its type with the highest
/// priority that has tries left or was successful before.
#[test]
fn the_tool_of_chromeos_finds_the_kernel_of_depthcharge() {
    if !need("cgpt") {
        return;
    }
    let built = Built::new(&closure(|_| {}), &[]);
    let cgpt = |arguments: &[&str]| {
        let said = tool::run(tool("cgpt").args(arguments).arg(&built.image));
        String::from_utf8(said).unwrap().trim().to_owned()
    };
    let table = cgpt(&["show", "-v"]);
    assert!(table.contains("Pri GPT header") && table.contains("Sec GPT header"), "{table}");
    assert!(!table.contains("INVALID"), "{table}");

    let kernel = |field: &str| cgpt(&["show", "-i", "1", field]);
    assert_eq!(kernel("-t"), CHROMEOS_KERNEL.to_uppercase());
    assert_eq!([kernel("-P"), kernel("-T"), kernel("-S")], ["10", "5", "1"], "priority, tries, successful");
    let place = &built.layout["partitions"][0];
    let sectors = |key: &str| (place[key].as_u64().unwrap() / 512).to_string();
    assert_eq!([kernel("-b"), kernel("-s")], [sectors("offset"), sectors("size")]);
    let found = cgpt(&["find", "-n", "-t", "kernel"]);
    assert_eq!(found, "1", "the only kernel");
}

/// Of two kernels, the first of the highest priority that has tries left or was successful.
#[test]
fn inspect_tells_what_depthcharge_starts() {
    if !need("cgpt") {
        return;
    }
    let second = json!({ "name": "second", "typeGuid": CHROMEOS_KERNEL, "size": MIB, "place": "beforeBoot" });
    let built = Built::new(&closure(move |spec| spec["extraPartitions"].as_array_mut().unwrap().push(second)), &[]);
    let inspected = |arguments: &[&str]| run(sane_image().arg("inspect").args(arguments).arg(&built.image));
    // Priority, tries and success of each, and which starts.
    for (bits, wanted) in [
        ([(10, 5, 1), (0, 0, 0)], Some(0)),
        ([(10, 5, 1), (11, 0, 1)], Some(1)),
        ([(10, 5, 1), (15, 0, 0)], Some(0)),
        ([(3, 1, 0), (3, 15, 1)], Some(0)),
        ([(3, 0, 0), (2, 15, 0)], Some(1)),
        ([(3, 0, 0), (0, 15, 1)], None),
    ] {
        for (number, (priority, tries, successful)) in (1..).zip(bits) {
            let set = [("-i", number), ("-P", priority), ("-T", tries), ("-S", successful)];
            let set = set.map(|(option, value)| [option.to_owned(), value.to_string()]).concat();
            tool::run(tool("cgpt").arg("add").args(set).arg(&built.image));
        }
        let report: Value = serde_json::from_str(&inspected(&["--json"]).expect_success().stdout).unwrap();
        let expected = (0..).zip(bits).map(|(i, (priority, tries, successful))| {
            let starts = wanted == Some(i);
            json!({ "priority": priority, "tries": tries, "successful": successful == 1, "starts": starts })
        });
        let told =
            report["partitions"].as_array().unwrap().iter().map(|partition| partition.get("depthcharge").cloned());
        assert_eq!(told.flatten().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let text = inspected(&[]).stdout;
        assert_eq!(text.contains("depthcharge starts it"), wanted.is_some(), "{text}");
    }
}

/// A partition that a filesystem comes to later is no fault; one with something else in it is.
#[test]
fn an_empty_partition_of_linux_is_right() {
    const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
    let closure = closure(|spec| {
        let data = json!({ "name": "data", "typeGuid": LINUX, "size": 100 * MIB });
        spec["extraPartitions"].as_array_mut().unwrap().push(data);
    });
    let built = Built::new(&closure, &["--verify"]);
    let mut partitions = (1..).zip(built.layout["partitions"].as_array().unwrap());
    let (number, data) = partitions.find(|(_, partition)| partition["name"] == "data").unwrap();
    let verify = || run(sane_image().arg("verify").arg(&built.image));
    let text = verify().expect_success();
    let said = text.stdout + &text.stderr;
    assert!(said.contains(&format!("partition {number} is empty")), "{said}");
    let file = File::options().write(true).open(&built.image).unwrap();
    file.write_all_at(b"x", data["offset"].as_u64().unwrap() + 90 * MIB).unwrap();
    let said = verify().expect_failure(1).stdout;
    assert!(said.contains(&format!("partition {number}: filesystem: holds no FAT, ext4, btrfs or erofs")), "{said}");
}

/// The other places from which a partition of the image is addressed know nothing of fixed numbers.
#[test]
fn an_image_with_extra_partitions_is_read_like_any() {
    let built = Built::new(&closure(|_| {}), &["--verify"]);
    let listed = run(sane_image().args(["ls", "-R"]).arg(&built.image).args(["nix", "/nix/store"])).expect_success();
    assert!(listed.stdout.contains("kernel.bin"), "{}", listed.stdout);
    let inspected = run(sane_image().arg("inspect").arg(&built.image)).expect_success();
    assert!(inspected.stdout.contains("platform") && inspected.stdout.contains("swap"), "{}", inspected.stdout);
}

#[test]
fn two_builds_give_the_same_partitions_and_other_names_give_others() {
    let guids = |closure: &Closure| {
        let plan =
            run(sane_image().args(["plan", "--json", "--store-root"]).arg(closure.root()).arg(closure.spec_path()));
        let plan: Value = serde_json::from_str(&plan.expect_success().stdout).unwrap();
        plan["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["guid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let one = guids(&closure(|_| {}));
    assert_eq!(one, guids(&closure(|_| {})));
    let other = guids(&closure(|spec| spec["extraPartitions"][1]["name"] = "kernel".into()));
    assert_ne!(one[0], other[0]);
    assert_eq!(one[1..], other[1..]);
}

#[test]
fn contents_that_do_not_make_a_partition_are_named() {
    let refused = |change: fn(&mut Value), wanted: &str| {
        let closure = closure(change);
        let out = closure.root().join("out");
        let failed = run(&mut build_command(&closure.spec_path(), closure.root(), &out, &[]));
        assert!(!failed.status.success() && failed.stderr.contains(wanted), "{wanted}: {}", failed.stderr);
        assert!(!out.exists(), "nothing is left");
    };
    refused(|spec| spec["extraPartitions"][1]["size"] = MIB.into(), "set extraPartitions[1].size to at least 2097929");
    refused(
        |spec| spec["extraPartitions"][1]["contents"] = "/nonexistent/kernel".into(),
        "/nonexistent/kernel: cannot be read",
    );
    refused(|spec| spec["extraPartitions"][1]["contents"] = "/".into(), "is not a regular file");
    refused(|spec| spec["extraPartitions"][1]["name"] = "EFI System".into(), "is the name of the partition of /boot");
    refused(
        |spec| spec["extraPartitions"][1]["uuid"] = "11111111-2222-4333-8444-555555555555".into(),
        "both have the GUID",
    );
    let far = |spec: &mut Value| {
        spec["extraPartitions"] = json!([{ "name": "swap", "typeGuid": SWAP, "size": 3_u64 << 40 }]);
        spec["hybridMbr"] = json!([{ "partition": "nix", "type": 131 }]);
    };
    refused(far, "ends beyond 2^32 sectors");
}

#[test]
fn a_hybrid_mbr_names_partitions_for_firmware_that_knows_no_gpt() {
    let closure = closure(|spec| {
        spec["hybridMbr"] =
            json!([{ "partition": "boot", "type": "0x0c", "bootable": true }, { "partition": "nix", "type": 131 }]);
    });
    let built = Built::new(&closure, &[]);
    oracle::fdisk(&built.image, 512).expect_clean();
    oracle::e2fsck(&built.image, built.nix()).expect_clean();
    if need("sgdisk") {
        let said = String::from_utf8(tool::run(tool("sgdisk").arg("-v").arg(&built.image))).unwrap();
        assert!(said.contains("No problems found"), "{said}");
    }
    if need("sfdisk") {
        // The MBR by itself: the two partitions where the GPT has them, and the entry of type EE before them.
        let listed = tool::run(tool("sfdisk").args(["--label-nested", "dos", "--json"]).arg(&built.image));
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        let found: Vec<_> = listed["partitiontable"]["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|partition| {
                let number = |key: &str| partition[key].as_u64().unwrap();
                (
                    number("start") * 512,
                    number("size") * 512,
                    partition["type"].as_str().unwrap().to_owned(),
                    partition["bootable"] == true,
                )
            })
            .collect();
        let (boot, nix) = (built.boot(), built.nix());
        let expected = [
            (boot.offset, boot.size, "c".to_owned(), true),
            (nix.offset, nix.size, "83".to_owned(), false),
            (512, boot.offset - 512, "ee".to_owned(), false),
        ];
        assert_eq!(found, expected);
    }
    let inspected = run(sane_image().arg("inspect").arg(&built.image)).expect_success();
    assert!(inspected.stdout.contains("names partition 2 as type 0c, active"), "{}", inspected.stdout);
}

/// A kernel of 1 MiB for each generation on an ESP of 40 MiB.
#[test]
fn the_room_for_more_generations_is_told() {
    let plan = |kernel: usize| {
        let files = Entry::dir([("nixos", Entry::dir([("kernel", Entry::file(vec![1; kernel]))]))]);
        let builder = ClosureBuilder::new().path("boot-files", files);
        let path = builder.store_path("boot-files").to_owned();
        let closure = builder.spec(move |spec| {
            spec["extraBootFiles"] = json!([path]);
            spec["bootPartSize"] = (40 * MIB).into();
        });
        let closure = closure.write();
        let command = |arguments: &[&str]| {
            let mut command = sane_image();
            command.args(arguments).arg("--store-root").arg(closure.root()).arg(closure.spec_path());
            run(&mut command).expect_success()
        };
        let json: Value = serde_json::from_str(&command(&["plan", "--json"]).stdout).unwrap();
        (json["boot"].clone(), command(&["plan"]))
    };
    let (room, told) = plan(1 << 20);
    assert_eq!(room, json!({ "generationSize": MIB, "moreGenerations": 38 }));
    assert!(told.stdout.contains("38 more generations") && !told.stderr.contains("warning"), "{told:?}");
    let (room, told) = plan(20 << 20);
    assert_eq!(room["moreGenerations"], json!(0));
    assert!(told.stderr.contains("warning: /boot has no room"), "{told:?}");
}
