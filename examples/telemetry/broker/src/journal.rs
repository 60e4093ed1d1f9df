//! The events that are not done, in memory and in a file.
//!
//! The file grows by a line for each change: `e OFFSET TOPIC SOURCE NUMBER TEXT` for an event, `d GROUP OFFSET` for what a group
//! has done. A last line that is cut short was never promised to anybody. At each start, and when most of the file is history,
//! it is written anew with what still counts.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::descriptors;

/// Bytes of the file from which on history is taken out of it.
const HISTORY_BYTES: usize = 4 << 20;

pub struct Event {
    pub offset: u64,
    pub topic: String,
    pub source: String,
    pub number: u64,
    pub text: String,
}

impl Event {
    fn line(&self) -> String {
        let Self {
            offset,
            topic,
            source,
            number,
            text,
        } = self;
        format!("e {offset} {topic} {source} {number} {text}\n")
    }
}

pub struct Journal {
    folder: PathBuf,
    file: File,
    /// Lines that are not on disk yet.
    pending: String,
    written: usize,
    events: VecDeque<Event>,
    last: u64,
    /// The last number of each source.
    numbers: BTreeMap<String, u64>,
    /// How far each group is.
    done: BTreeMap<String, u64>,
}

impl Journal {
    pub fn open(folder: impl AsRef<Path>) -> io::Result<Self> {
        let folder = folder.as_ref().to_owned();
        let text = match fs::read(folder.join("journal")) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut journal = Self {
            file: create(&folder.join("journal.new"))?,
            folder,
            pending: String::new(),
            written: 0,
            events: VecDeque::new(),
            last: 0,
            numbers: BTreeMap::new(),
            done: BTreeMap::new(),
        };
        let whole = text.split_inclusive('\n');
        for line in whole.filter(|line| line.ends_with('\n')) {
            journal.replay(line.trim_end_matches('\n'));
        }
        journal.rewrite()?;
        Ok(journal)
    }

    /// Events that somebody still has to be told of.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Takes an event, unless its source has published it before.
    pub fn publish(
        &mut self,
        topic: &str,
        source: &str,
        number: u64,
        text: &str,
    ) -> io::Result<()> {
        if self.numbers.get(source).is_some_and(|last| *last >= number) {
            return Ok(());
        }
        self.add(Event {
            offset: self.last + 1,
            topic: topic.to_owned(),
            source: source.to_owned(),
            number,
            text: text.to_owned(),
        });
        let line = self.events.back().map(Event::line);
        self.pending.push_str(&line.unwrap_or_default());
        Ok(())
    }

    /// How far a group is. One that was not there before begins with what is still known.
    pub fn done_of(&mut self, group: &str) -> u64 {
        let first = self
            .events
            .front()
            .map_or(self.last + 1, |event| event.offset);
        *self.done.entry(group.to_owned()).or_insert(first - 1)
    }

    /// The group has done everything up to this event.
    pub fn done(&mut self, group: &str, offset: u64) -> io::Result<()> {
        self.pending.push_str(&format!("d {group} {offset}\n"));
        self.move_to(group, offset);
        Ok(())
    }

    /// The first event behind this one.
    pub fn after(&self, offset: u64) -> Option<&Event> {
        let at = self.events.partition_point(|event| event.offset <= offset);
        self.events.get(at)
    }

    /// Returns when everything that was said so far is on disk.
    pub fn commit(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.written + self.pending.len() > HISTORY_BYTES && self.events.len() < 1000 {
            return self.rewrite();
        }
        self.file.write_all(self.pending.as_bytes())?;
        descriptors::sync(&self.file)?;
        self.written += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    fn replay(&mut self, line: &str) {
        let mut words = line.splitn(6, ' ');
        let mut word = || words.next().unwrap_or_default();
        match word() {
            "e" => {
                let (offset, topic, source, number, text) =
                    (word().parse(), word(), word(), word().parse(), word());
                if let (Ok(offset), Ok(number)) = (offset, number) {
                    self.add(Event {
                        offset,
                        topic: topic.to_owned(),
                        source: source.to_owned(),
                        number,
                        text: text.to_owned(),
                    });
                }
            }
            "d" => {
                let (group, offset) = (word(), word().parse());
                if let Ok(offset) = offset {
                    self.move_to(group, offset);
                }
            }
            "n" => {
                let (source, number) = (word(), word().parse());
                if let Ok(number) = number {
                    self.numbers.insert(source.to_owned(), number);
                }
            }
            "l" => self.last = word().parse().unwrap_or(self.last),
            _ => {}
        }
    }

    fn add(&mut self, event: Event) {
        self.last = event.offset;
        self.numbers.insert(event.source.clone(), event.number);
        self.events.push_back(event);
    }

    /// Forgets what every group has done.
    fn move_to(&mut self, group: &str, offset: u64) {
        let done = self.done.entry(group.to_owned()).or_default();
        *done = offset.max(*done);
        let all = self.done.values().copied().min().unwrap_or(0);
        while self.events.front().is_some_and(|event| event.offset <= all) {
            self.events.pop_front();
        }
    }

    /// Puts a file in the place of the old one that holds what still counts.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = format!("l {}\n", self.last);
        for (source, number) in &self.numbers {
            text.push_str(&format!("n {source} {number}\n"));
        }
        for (group, done) in &self.done {
            text.push_str(&format!("d {group} {done}\n"));
        }
        for event in &self.events {
            text.push_str(&event.line());
        }
        let (new, place) = (self.folder.join("journal.new"), self.folder.join("journal"));
        self.file = create(&new)?;
        self.file.write_all(text.as_bytes())?;
        descriptors::sync(&self.file)?;
        fs::rename(&new, &place)?;
        self.pending.clear();
        self.written = text.len();
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).open(path)
}
