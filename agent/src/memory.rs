//! Gives back memory that only loading the program needed.
//!
//! libvirt's client library brings some fifty others along. Loading them touches their symbol and
//! relocation tables, and the kernel maps what lies around: 17 MiB of file pages that stay resident
//! although next to none of them is looked at again. They are let go once the agent has settled,
//! and now and then after that; whatever is needed comes back with a minor fault from the page cache.
#![expect(
    unsafe_code,
    reason = "madvise takes addresses; which ones are harmless is argued at the call"
)]

use std::ops::Range;
use std::time::Duration;

use rustix::mm::{Advice, madvise};

/// When the agent has settled: connected, surveyed, inventory taken.
pub(crate) const FIRST_AFTER: Duration = Duration::from_secs(10);
/// How often after that.
pub(crate) const EVERY: Duration = Duration::from_secs(600);

/// Lets go of the pages of read-only file mappings; tells how many KiB were resident in them.
pub(crate) fn release_file_pages() -> std::io::Result<u64> {
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let mut released_kib = 0;
    for mapping in read_only_file_mappings(&maps) {
        let start = std::ptr::with_exposed_provenance_mut(mapping.addresses.start);
        // SAFETY: the mapping is private, backed by a file, not writable, and none of its pages is
        // anonymous, so every page is as it is in the file. MADV_DONTNEED drops the page table
        // entries of such a mapping; the next access maps the same bytes again. It can't become
        // writable meanwhile: nothing in this process changes protections once it is loaded, and
        // a mapping that went away makes the call fail.
        let dropped = unsafe { madvise(start, mapping.addresses.len(), Advice::LinuxDontNeed) };
        if dropped.is_ok() {
            released_kib += mapping.resident_kib;
        }
    }
    Ok(released_kib)
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    addresses: Range<usize>,
    resident_kib: u64,
}

/// Private, unwritable mappings of files, without a single page of their own.
fn read_only_file_mappings(smaps: &str) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    // Whether the lines that follow are about the last of `found`.
    let mut inside = false;
    for line in smaps.lines() {
        if let Some(addresses) = head_of_read_only_file(line) {
            inside = true;
            found.push(Mapping {
                addresses,
                resident_kib: 0,
            });
        } else if line
            .split(' ')
            .next()
            .is_some_and(|word| word.contains('-'))
        {
            inside = false;
        } else if let Some(mapping) = found.last_mut().filter(|_| inside) {
            let amount = |name| -> Option<u64> {
                let rest = line.strip_prefix(name)?.trim_start();
                rest.split(' ').next()?.parse().ok()
            };
            if let Some(kib) = amount("Rss:") {
                mapping.resident_kib = kib;
            }
            // Pages of its own: relocated, say, and made read-only afterwards. Not to be lost.
            let own = amount("Anonymous:").or_else(|| amount("Private_Dirty:"));
            if own.is_some_and(|kib| kib > 0) {
                found.pop();
                inside = false;
            }
        }
    }
    found
}

/// `7f0c5e600000-7f0c5e628000 r-xp 00028000 fe:00 1234   /usr/lib/libc.so.6`
fn head_of_read_only_file(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let addresses = address(start)?..address(end)?;
    let private_and_unwritable = matches!(words.next()?, "r--p" | "r-xp");
    let path = words.nth(3)?;
    (private_and_unwritable && path.starts_with('/')).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_unwritable_private_file_mappings_are_let_go() {
        let block = |head: &str, anonymous: u32| {
            format!(
                "{head}\nSize: 8 kB\nRss:                  12 kB\nPrivate_Dirty:         0 kB\n\
                 Anonymous:             {anonymous} kB\nVmFlags: rd ex mr mw me\n"
            )
        };
        let smaps = [
            block("1000-3000 r-xp 00000000 fe:00 1 /usr/lib/a.so", 0),
            block("3000-4000 r--p 00002000 fe:00 1 /usr/lib/a.so", 4),
            block("4000-5000 rw-p 00003000 fe:00 1 /usr/lib/a.so", 0),
            block("5000-6000 r--s 00000000 fe:00 2 /var/lib/shared", 0),
            block("6000-7000 r-xp 00000000 00:00 0 [vdso]", 0),
            block("7000-8000 r--p 00000000 00:00 0", 0),
            block("8000-9000 r--p 00000000 fe:00 3 /usr/lib/b.so", 0),
        ]
        .concat();
        let found: Vec<_> = read_only_file_mappings(&smaps)
            .into_iter()
            .map(|mapping| (mapping.addresses, mapping.resident_kib))
            .collect();
        assert_eq!(found, [(0x1000..0x3000, 12), (0x8000..0x9000, 12)]);
    }

    #[test]
    fn the_process_goes_on_as_it_was() {
        static TABLE: [u64; 4] = [2, 3, 5, 7];
        let before = format!("{TABLE:?} {:?}", std::thread::current().name());
        for _ in 0..3 {
            assert!(release_file_pages().unwrap() > 0);
        }
        assert_eq!(
            format!("{TABLE:?} {:?}", std::thread::current().name()),
            before
        );
        assert_eq!(
            "text".parse::<u32>().unwrap_err().to_string(),
            "invalid digit found in string"
        );
    }
}
