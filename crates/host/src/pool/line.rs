//! The line of those who wait for a permit: in arrival order inside an app, apps in turn. Pure bookkeeping; who may go
//! is for the caller to say.

use std::collections::VecDeque;

/// Waiting calls. `W` is what is kept of each.
#[derive(Debug)]
pub(super) struct Line<W> {
    /// The app whose turn it is stands in front.
    apps: VecDeque<App<W>>,
    last: u64,
}

#[derive(Debug)]
struct App<W> {
    id: u64,
    components: Vec<Component<W>>,
}

#[derive(Debug)]
struct Component<W> {
    id: u64,
    waiting: VecDeque<(u64, W)>,
}

/// Whether a waiting call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    /// No call of this component may, others perhaps.
    ComponentFull,
    /// No call may.
    Full,
}

/// Somebody's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    app: u64,
    component: u64,
    number: u64,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self {
            apps: VecDeque::new(),
            last: 0,
        }
    }
}

impl<W> Line<W> {
    /// Goes to the end of its component's line.
    pub(super) fn join(&mut self, app: u64, component: u64, waiting: W) -> Place {
        self.last += 1;
        let place = Place {
            app,
            component,
            number: self.last,
        };
        let entry = (place.number, waiting);
        let Some(app) = self.apps.iter_mut().find(|line| line.id == app) else {
            self.apps.push_back(App {
                id: app,
                components: vec![Component {
                    id: component,
                    waiting: VecDeque::from([entry]),
                }],
            });
            return place;
        };
        match app.components.iter_mut().find(|line| line.id == component) {
            Some(line) => line.waiting.push_back(entry),
            None => app.components.push(Component {
                id: component,
                waiting: VecDeque::from([entry]),
            }),
        }
        place
    }

    /// Gives up a place, if it was not called meanwhile.
    pub(super) fn leave(&mut self, place: Place) -> Option<W> {
        let app = self.apps.iter_mut().find(|app| app.id == place.app)?;
        let lines = &mut app.components;
        let line = lines.iter_mut().find(|line| line.id == place.component)?;
        let index = line
            .waiting
            .binary_search_by_key(&place.number, |(number, _)| *number)
            .ok()?;
        let left = line.waiting.remove(index);
        self.tidy();
        left.map(|(_, waiting)| waiting)
    }

    /// The next who may go: of the app whose turn it is, the one who waits longest.
    pub(super) fn call(&mut self, mut verdict: impl FnMut(&W) -> Verdict) -> Option<W> {
        for turn in 0..self.apps.len() {
            let app = self.apps.get_mut(turn)?;
            let heads = |line: &Component<W>| line.waiting.front().map(|(number, _)| *number);
            app.components.sort_by_key(heads);
            for line in &mut app.components {
                let Some((_, head)) = line.waiting.front() else {
                    continue;
                };
                match verdict(head) {
                    Verdict::Go => {
                        let called = line.waiting.pop_front();
                        // Its app has had its turn.
                        if let Some(app) = self.apps.remove(turn) {
                            self.apps.push_back(app);
                        }
                        self.tidy();
                        return called.map(|(_, waiting)| waiting);
                    }
                    Verdict::ComponentFull => {}
                    Verdict::Full => return None,
                }
            }
        }
        None
    }

    fn tidy(&mut self) {
        for app in &mut self.apps {
            app.components.retain(|line| !line.waiting.is_empty());
        }
        self.apps.retain(|app| !app.components.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(line: &mut Line<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| line.call(|_| Verdict::Go)).collect()
    }

    #[test]
    fn apps_take_turns_however_many_of_their_calls_wait() {
        let mut line = Line::default();
        for name in ["a1", "a2", "a3"] {
            line.join(1, 10, name);
        }
        line.join(2, 20, "b1");
        line.join(3, 30, "c1");
        line.join(2, 20, "b2");
        assert_eq!(all(&mut line), ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert!(line.apps.is_empty());
    }

    #[test]
    fn inside_an_app_the_order_of_arrival_counts() {
        let mut line = Line::default();
        for (component, name) in [(10, "1"), (11, "2"), (10, "3"), (11, "4")] {
            line.join(1, component, name);
        }
        assert_eq!(all(&mut line), ["1", "2", "3", "4"]);
    }

    #[test]
    fn a_full_component_holds_nobody_else_up() {
        let mut line = Line::default();
        line.join(1, 10, "full 1");
        line.join(1, 11, "free");
        line.join(2, 20, "full 2");
        let verdict = |name: &&str| match name.starts_with("full") {
            true => Verdict::ComponentFull,
            false => Verdict::Go,
        };
        assert_eq!(line.call(verdict), Some("free"));
        assert_eq!(line.call(verdict), None);
        assert_eq!(line.call(|_| Verdict::Full), None);
        assert_eq!(all(&mut line).len(), 2, "nobody has lost a place");
    }

    #[test]
    fn whoever_leaves_is_not_called() {
        let mut line = Line::default();
        let first = line.join(1, 10, "first");
        let second = line.join(1, 10, "second");
        line.join(1, 10, "third");
        assert_eq!(line.leave(second), Some("second"));
        assert_eq!(line.leave(second), None);
        assert_eq!(line.call(|_| Verdict::Go), Some("first"));
        assert_eq!(line.leave(first), None, "it was called");
        assert_eq!(all(&mut line), ["third"]);
    }
}
