//! The cases about files: ways out of a granted directory, writing where reading was granted, and times that overflow. They
//! want one directory.

use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags as Access, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

/// Does what `case` says in the first directory that was granted.
pub(crate) fn act(case: &str) -> Option<String> {
    let act: fn(&Descriptor) -> Result<(), ErrorCode> = match case {
        "timestamp" => timestamp, // GHSA-j2g9, GHSA-mr2v: times that no clock has
        "rename-slash" => |dir| dir.rename_at("page.txt", dir, "up/planted.txt/"), // GHSA-m9f7
        "rename-out" => |dir| dir.rename_at("page.txt", dir, "../planted.txt"),
        "link-out" => |dir| dir.link_at(PathFlags::SYMLINK_FOLLOW, "link", dir, "planted.txt"), // GHSA-vqjp
        "symlink-out" => |dir| dir.symlink_at("/etc", "planted"),
        "open-out" => |dir| open(dir, "up/secret.txt", OpenFlags::empty(), Access::READ),
        "create" => |dir| open(dir, "planted.txt", OpenFlags::CREATE, Access::READ), // GHSA-4ch3
        "truncate" => |dir| open(dir, "page.txt", OpenFlags::TRUNCATE, Access::READ), // GHSA-2r75
        "mutate" => |dir| {
            open(
                dir,
                "page.txt",
                OpenFlags::empty(),
                Access::READ | Access::WRITE,
            )
        },
        "long-name" => |dir| open(dir, &"x/".repeat(100_000), OpenFlags::empty(), Access::READ),
        "zero-name" => |dir| open(dir, "a\0b", OpenFlags::empty(), Access::READ),
        _ => return None,
    };
    let directories = get_directories();
    let told = directories.first().map(|(dir, _)| act(dir));
    Some(format!("{told:?}"))
}

fn open(dir: &Descriptor, path: &str, how: OpenFlags, access: Access) -> Result<(), ErrorCode> {
    dir.open_at(PathFlags::SYMLINK_FOLLOW, path, how, access)
        .map(|_| ())
}

fn timestamp(dir: &Descriptor) -> Result<(), ErrorCode> {
    let time = |seconds, nanoseconds| {
        NewTimestamp::Timestamp(Datetime {
            seconds,
            nanoseconds,
        })
    };
    let odd = [
        (u64::MAX, 0),
        (u64::MAX, u32::MAX),
        (0, u32::MAX),
        (i64::MAX as u64, 999_999_999),
    ];
    let mut last = Ok(());
    for (seconds, nanoseconds) in odd {
        let path = PathFlags::empty();
        last = dir.set_times_at(
            path,
            "page.txt",
            time(seconds, nanoseconds),
            time(seconds, nanoseconds),
        );
    }
    last
}
