//! JSON lines to stderr or to a file that never grows beyond two mebibytes.

use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// When the file reaches this, it becomes `<file>.1` and a new one begins.
const MAX_FILE: u64 = 1 << 20;

/// Where the log goes. Failure to write is not an error: packets matter more.
pub struct Log {
    file: Option<(PathBuf, File, u64)>,
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Log {
    /// Logs to a file, or to stderr.
    pub fn new(path: Option<&Path>) -> io::Result<Log> {
        let file = match path {
            Some(path) => open(path).map(|(file, size)| Some((path.to_owned(), file, size)))?,
            None => None,
        };
        Ok(Log { file })
    }

    /// Something an operator may want to know.
    pub fn info(&mut self, message: &str, fields: Value) {
        self.write("info", message, fields);
    }

    /// Something an operator should look at.
    pub fn warn(&mut self, message: &str, fields: Value) {
        self.write("warn", message, fields);
    }

    fn write(&mut self, level: &str, message: &str, fields: Value) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let mut line =
            json!({ "level": level, "time": time, "name": "vtepd-dataplane", "pid": std::process::id(), "msg": message });
        if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
            line.extend(fields);
        }
        let line = format!("{line}\n");
        let Some((path, file, size)) = &mut self.file else {
            let _ = io::stderr().write_all(line.as_bytes());
            return;
        };
        if *size >= MAX_FILE {
            let mut old = path.clone().into_os_string();
            old.push(".1");
            let _ = std::fs::rename(&path, old);
            if let Ok((next, length)) = open(path) {
                (*file, *size) = (next, length);
            }
        }
        let _ = file.write_all(line.as_bytes());
        *size += line.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_turned_over_and_the_disk_is_not_filled() {
        let directory = std::env::temp_dir().join(format!("vtepd-log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("x.log");
        let mut log = Log::new(Some(&path)).unwrap();
        for number in 0..4_000 {
            log.info("a line", json!({ "number": number, "filler": "x".repeat(1_000) }));
        }
        let total: u64 = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(total < 2 * MAX_FILE + 10_000, "{total}");
        let text = std::fs::read_to_string(&path).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["number"], &last["level"]), (&json!(3_999), &json!("info")));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
