//! A terminal in which the program runs.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Stdio,
    thread,
};

use nano::testing::within;
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
};

/// The side of the terminal at which a person sits.
pub(crate) struct Terminal {
    keyboard: File,
    screen: mpsc::UnboundedReceiver<Vec<u8>>,
    /// What was written and not looked at.
    written: String,
    program: Option<OwnedFd>,
}

impl Terminal {
    pub(crate) fn open(columns: u16, rows: u16) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let program = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&program, size).unwrap();
        let keyboard = File::from(person);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, screen) = mpsc::unbounded_channel();
        // It ends when no program has the terminal.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let _ = sender.send(bytes[..count].to_vec());
            }
        });
        Self {
            keyboard,
            screen,
            written: String::new(),
            program: Some(program),
        }
    }

    /// Starts a program in it, once.
    pub(crate) fn run(&mut self, command: &mut Command) -> Child {
        let program = self.program.take().unwrap();
        let process = command
            .env("TERM", "xterm")
            .stdin(program.try_clone().unwrap())
            .stdout(program.try_clone().unwrap())
            .stderr(program)
            .spawn()
            .unwrap();
        // Or they would keep the terminal.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        process
    }

    /// Waits until this is written, and returns what was before it.
    pub(crate) async fn shows(&mut self, text: &str) -> String {
        let written = &mut self.written;
        let screen = &mut self.screen;
        let shown = async {
            loop {
                if let Some(at) = written.find(text) {
                    let rest = written.split_off(at + text.len());
                    return std::mem::replace(written, rest);
                }
                let bytes = screen.recv().await;
                let bytes = bytes.unwrap_or_else(|| panic!("no {text:?} in {written:?}"));
                written.push_str(&String::from_utf8_lossy(&bytes));
            }
        };
        within(text, shown).await
    }

    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// What is written until the program has ended.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.written);
        while let Some(bytes) = within("the end of the terminal", self.screen.recv()).await {
            rest.push_str(&String::from_utf8_lossy(&bytes));
        }
        rest
    }

    /// Types a line when the program asks for one, a key at a time.
    pub(crate) async fn enter(&mut self, line: &str) {
        self.shows("> ").await;
        for key in line.chars() {
            self.type_keys(&key.to_string());
            self.shows(&key.to_string()).await;
        }
        self.type_keys("\r");
    }
}
