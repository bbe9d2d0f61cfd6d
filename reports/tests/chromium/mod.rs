//! Headless Chromium over the DevTools protocol, by its pipe: JSON messages that end in a zero byte.
//! Source: Chrome DevTools Protocol, <https://chromedevtools.github.io/devtools-protocol/>.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/bin/chromium";

/// A running browser with one page.
pub struct Browser {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    next_id: u64,
    session: Value,
    /// Whatever the page did unasked: console messages, exceptions, requests.
    pub events: Vec<Value>,
    _profile: TempDir,
}

/// How a page is shown.
#[derive(Clone, Copy)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    pub script: bool,
}

impl Browser {
    /// Starts Chromium. Where it is not installed: `None`, said on stderr; with `VTAX_REQUIRE_BROWSER=1` a panic.
    pub fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            let missing = "chromium is not installed; apt-get install chromium";
            assert!(
                std::env::var_os("VTAX_REQUIRE_BROWSER").is_none_or(|value| value != "1"),
                "{missing}"
            );
            // For scripts/test, past libtest, which keeps what a passing test prints to itself.
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a browser's test");
            let line = format!("SKIPPED {test}: {missing}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        let profile = TempDir::new().unwrap();
        // The browser speaks on descriptors 3 and 4; the shell makes them of its stdin and stdout.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 >/dev/null", PROGRAM])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Self {
            requests: child.stdin.take().unwrap(),
            replies: BufReader::new(child.stdout.take().unwrap()),
            child,
            next_id: 0,
            session: Value::Null,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        browser.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method and waits for its result; events that come in between are kept.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.requests
            .write_all(message.to_string().as_bytes())
            .unwrap();
        self.requests.write_all(b"\0").unwrap();
        loop {
            let reply = self.receive();
            if reply["id"] == id {
                assert!(reply["error"].is_null(), "{method}: {}", reply["error"]);
                return reply["result"].clone();
            }
            self.events.push(reply);
        }
    }

    fn receive(&mut self) -> Value {
        let mut message = Vec::new();
        self.replies.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "chromium went away");
        serde_json::from_slice(&message).unwrap()
    }

    /// Shows the file at `path` and waits until it has loaded.
    pub fn open(&mut self, path: &Path, view: View) {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": !view.script}),
        );
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": view.width, "height": view.height, "deviceScaleFactor": 1, "mobile": view.width < 600}),
        );
        let scheme = if view.dark { "dark" } else { "light" };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        self.events.clear();
        self.call(
            "Page.navigate",
            json!({"url": format!("file://{}", path.display())}),
        );
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            let event = self.receive();
            self.events.push(event);
        }
    }

    /// The value of a JavaScript expression. Works where the page's own scripts are disabled, too.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true}),
        );
        assert!(
            result["exceptionDetails"].is_null(),
            "{}",
            result["exceptionDetails"]
        );
        result["result"]["value"].clone()
    }

    /// Pictures the whole page.
    pub fn screenshot(&mut self, to: &PathBuf) {
        let picture = self.call(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": true}),
        );
        let png = base64::engine::general_purpose::STANDARD
            .decode(picture["data"].as_str().unwrap())
            .unwrap();
        std::fs::write(to, png).unwrap();
    }

    /// Requests other than for the page itself and its inline data.
    pub fn foreign_requests(&self) -> Vec<&Value> {
        self.events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .map(|event| &event["params"]["request"]["url"])
            .filter(|url| {
                let url = url.as_str().unwrap_or_default();
                !url.starts_with("file:") && !url.starts_with("data:")
            })
            .collect()
    }

    /// Console messages, exceptions and the browser's own complaints.
    pub fn complaints(&self) -> Vec<&Value> {
        self.events
            .iter()
            .filter(|event| {
                matches!(
                    event["method"].as_str(),
                    Some("Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded")
                )
            })
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Already gone is as good.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
