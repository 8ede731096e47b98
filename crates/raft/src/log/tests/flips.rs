//! One flipped bit in every byte of a log: refused, or shown to change nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use virtflow_powercut::{Image, every, scratch};

use super::cuts::Held;
use super::*;

/// Every so manieth byte is looked at in an ordinary run.
const STEP: usize = 23;

fn files() -> LogOptions {
    LogOptions {
        chunk_bytes: 20 * 1024,
        ..options()
    }
}

/// A closed log of some 64 KiB in several files, all of it acknowledged.
async fn a_log(dir: &Path) {
    let mut log = LogStore::create(dir, &identity(), &files()).await.unwrap();
    log.save_vote(&vote(1, 1, true)).await.unwrap();
    for index in 0..160 {
        let text = "entry ".repeat(usize::try_from(index * 7 % 120).unwrap());
        log.blocking_append([batch(1, index, &text)]).await.unwrap();
        if index % 10 == 9 {
            log.save_committed(Some(log_id(1, index - 3)))
                .await
                .unwrap();
        }
    }
    log.truncate_after(Some(log_id(1, 157))).await.unwrap();
    log.save_vote(&vote(2, 3, false)).await.unwrap();
    log.blocking_append([batch(2, 158, "of another term")])
        .await
        .unwrap();
    log.purge(log_id(1, 20)).await.unwrap();
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_log_is_refused_or_changes_nothing() {
    let dir = scratch();
    let sound = dir.path().join("sound");
    runtime().block_on(a_log(&sound));
    let image = Image::read(&sound);
    let bytes: Vec<(PathBuf, usize)> = image
        .files()
        .iter()
        .flat_map(|(path, bytes)| (0..bytes.len()).map(|at| (path.clone(), at)))
        .collect();
    let chunks = image.files().len() - 2;
    assert!(
        chunks > 2 && bytes.len() > 64 * 1024,
        "{chunks} files, {} bytes",
        bytes.len()
    );

    let dir_of = |thread: usize| dir.path().join(format!("flipped-{thread}"));
    image.write(&dir_of(0)).unwrap();
    let expected = runtime().block_on(async {
        let mut log = LogStore::open(&dir_of(0), &identity(), &files()).unwrap();
        Held::of(&mut log).await
    });
    assert_eq!(expected.entries.len(), 138);

    let (step, from) = every(STEP);
    println!("every byte from {from} in steps of {step}");
    let (refused, harmless) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (dir, bytes, image, expected) = (dir_of(thread), &bytes, &image, &expected);
            let (refused, harmless) = (&refused, &harmless);
            scope.spawn(move || {
                let runtime = runtime();
                image.write(&dir).unwrap();
                let own = bytes
                    .iter()
                    .enumerate()
                    .skip(from + thread * step)
                    .step_by(2 * step);
                for (number, (path, at)) in own {
                    let sound = &image.files()[path];
                    let mut flipped = sound.to_vec();
                    flipped[*at] ^= 1 << (number % 8);
                    std::fs::write(dir.join(path), &flipped).unwrap();
                    let place = format!("byte {at} of {}", path.display());
                    match LogStore::open(&dir, &identity(), &files()) {
                        Err(error) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            let text = error.to_string();
                            assert!(
                                text.contains("damaged") && text.contains("add it anew"),
                                "{place}: {text}"
                            );
                            // Not a byte more was lost.
                            let left = std::fs::read(dir.join(path)).unwrap();
                            assert!(left == flipped, "{place}");
                            std::fs::write(dir.join(path), sound).unwrap();
                            assert_eq!(Image::read(&dir), *image, "{place}");
                        }
                        Ok(mut log) => {
                            harmless.fetch_add(1, Ordering::Relaxed);
                            let held = runtime.block_on(Held::of(&mut log));
                            assert_eq!(held, *expected, "{place}");
                            drop(log);
                            image.write(&dir).unwrap();
                        }
                    }
                }
            });
        }
    });
    let (refused, harmless) = (refused.into_inner(), harmless.into_inner());
    println!(
        "{} bytes in {chunks} files: {refused} flips refused, {harmless} harmless",
        bytes.len()
    );
    // Only the mark beside the log may be lost: the log itself says as much.
    assert!(
        refused > 2000 && harmless <= flush::MARK_BYTES,
        "{refused}, {harmless}"
    );
}
