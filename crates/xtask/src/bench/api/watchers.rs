//! Many who watch: streams over TLS from other processes, each kept in a file and held against what was changed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use virtflow_testkit::command::system;
use virtflow_testkit::poll;

/// Streams of one curl: it bears no more.
const STREAMS_EACH: usize = 250;
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Streams that are open; dropping them ends them.
#[derive(Debug)]
pub(super) struct Watchers {
    programs: Vec<Child>,
    files: Vec<PathBuf>,
}

impl Drop for Watchers {
    fn drop(&mut self) {
        for program in &mut self.programs {
            // It may have ended by itself; then there is nothing to do.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

impl Watchers {
    /// Opens `count` streams of `url`, from the network namespace of the process `place`; all are past their
    /// bookmark then.
    pub(super) fn open(
        place: i32,
        folder: &Path,
        ca: &Path,
        authorization: &Path,
        urls: &[String],
        count: usize,
    ) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut watchers = Self {
            programs: Vec::new(),
            files: (0..count)
                .map(|number| folder.join(format!("stream-{number}")))
                .collect(),
        };
        for (part, files) in watchers.files.chunks(STREAMS_EACH).enumerate() {
            let config = folder.join(format!("curl-{part}"));
            let streams: Vec<String> = files
                .iter()
                .enumerate()
                .map(|(number, file)| {
                    format!(
                        "silent\nno-buffer\ncacert = \"{}\"\nheader = \"@{}\"\noutput = \"{}\"\nurl = \"{}\"\n",
                        ca.display(),
                        authorization.display(),
                        file.display(),
                        urls[number % urls.len()]
                    )
                })
                .collect();
            fs::write(&config, streams.join("next\n"))?;
            let mut command = system("nsenter");
            command
                .args(["--target", &place.to_string(), "--net", "--"])
                .args(["curl", "--parallel", "--parallel-immediate"])
                .args(["--parallel-max", &STREAMS_EACH.to_string(), "--config"])
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(folder.join(format!("curl-{part}.err")))?)
                .process_group(0);
            watchers
                .programs
                .push(command.spawn().context("starting curl")?);
        }
        watchers.wait("to be up", |text| text.contains("event: bookmark"))?;
        Ok(watchers)
    }

    /// How many streams there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Waits until each has been told of a change of each of the objects.
    pub(super) fn told(&self, ids: &BTreeSet<String>) -> Result<()> {
        self.wait("to be told of every change", |text| {
            let after = text
                .split_once("event: bookmark")
                .map_or("", |parts| parts.1);
            ids.iter().all(|id| after.contains(id.as_str()))
        })
    }

    fn wait(&self, what: &str, holds: impl Fn(&str) -> bool) -> Result<()> {
        let mut waiting: Vec<&PathBuf> = self.files.iter().collect();
        let result = poll::until(
            format_args!("{} streams {what}", self.len()),
            ARRIVAL_TIMEOUT,
            || {
                waiting.retain(|file| !holds(&fs::read_to_string(file).unwrap_or_default()));
                Ok(waiting.is_empty().then_some(()))
            },
        );
        let late = waiting.len();
        let example = waiting
            .first()
            .map(|file| fs::read_to_string(file).unwrap_or_default());
        result.with_context(|| format!("{late} are not, the first has {example:?}"))
    }
}
