//! The task that posts: one message of each call at a time, so many posts at the same time, again and again with growing pauses.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Client, StatusCode, redirect};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::queue::{Counts, Hooks, Notice};
use super::sign::Secret;
use crate::engine::config::hex;

/// Posts at the same time, of all organisations and of one: a receiver that never answers holds up nobody else's.
const MOST_POSTS: usize = 32;
const MOST_POSTS_OF_ORG: usize = 8;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Connections that are kept for the next message of a receiver, and for how long.
const IDLE: Duration = Duration::from_secs(20);
const MOST_IDLE: usize = 2;
/// Each pause is so many times the one before, and none is longer.
const GROWTH: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// At the end of the engine.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// How often and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub attempts: u32,
    pub first_pause: Duration,
    /// Of one post, with its answer.
    pub limit: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { attempts: 6, first_pause: Duration::from_secs(1), limit: Duration::from_secs(10) }
    }
}

impl Pace {
    /// Behind the attempt of this number, the first being 0; `None`: it was the last. `luck`: of 256, so that receivers that were down are
    /// not asked by all at once.
    fn pause(self, attempt: u32, luck: u8) -> Option<Duration> {
        if attempt + 1 >= self.attempts {
            return None;
        }
        let pause = self.first_pause.saturating_mul(GROWTH.saturating_pow(attempt)).min(LONGEST_PAUSE);
        Some(pause + pause.mul_f64(f64::from(luck) / 1024.0))
    }
}

/// See the room's contract. Runs until nobody can tell anything any more.
pub struct Deliveries {
    notices: mpsc::UnboundedReceiver<Notice>,
    poster: Arc<Poster>,
}

struct Poster {
    client: Client,
    /// To receivers on this machine, past any proxy.
    direct: Client,
    secrets: BTreeMap<String, Secret>,
    pace: Pace,
    posts: Semaphore,
    /// The same of each organisation that posts or waits to.
    posts_of: Mutex<HashMap<String, Arc<Semaphore>>>,
    counts: Arc<Counts>,
}

impl Deliveries {
    /// `secrets`: by organisation; what is told of another's calls is not signed.
    pub fn new(secrets: BTreeMap<String, Secret>, pace: Pace, counts: Arc<Counts>) -> Result<(Self, Hooks), String> {
        let (hooks, notices) = Hooks::new(Arc::clone(&counts));
        let (client, direct) = (client(false)?, client(true)?);
        let posts = Semaphore::new(MOST_POSTS);
        let poster = Arc::new(Poster { client, direct, secrets, pace, posts, posts_of: Mutex::default(), counts });
        Ok((Self { notices, poster }, hooks))
    }

    pub async fn run(mut self) {
        let (mut lanes, mut flying) = (HashMap::<Arc<str>, VecDeque<Notice>>::new(), JoinSet::new());
        loop {
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    None => break,
                    Some(notice) => match lanes.get_mut(&notice.lane) {
                        Some(lane) => lane.push_back(notice),
                        None => {
                            lanes.insert(Arc::clone(&notice.lane), VecDeque::new());
                            self.post(&mut flying, notice);
                        }
                    },
                },
                Some(Ok(lane)) = flying.join_next() => self.next(&mut lanes, &mut flying, lane),
            }
        }
        let rest = async {
            while let Some(done) = flying.join_next().await {
                let Ok(lane) = done else { continue };
                self.next(&mut lanes, &mut flying, lane);
            }
        };
        if tokio::time::timeout(CLOSE_LIMIT, rest).await.is_err() {
            tracing::warn!("webhooks are lost with the engine: their receivers took nothing");
        }
    }

    fn next(&self, lanes: &mut HashMap<Arc<str>, VecDeque<Notice>>, flying: &mut JoinSet<Arc<str>>, lane: Arc<str>) {
        match lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
            Some(notice) => self.post(flying, notice),
            None => drop(lanes.remove(&lane)),
        }
    }

    fn post(&self, flying: &mut JoinSet<Arc<str>>, notice: Notice) {
        let poster = Arc::clone(&self.poster);
        flying.spawn(async move {
            poster.deliver(&notice).await;
            notice.lane
        });
    }
}

fn client(is_direct: bool) -> Result<Client, String> {
    crate::net::tls::install_provider();
    let mut builder = Client::builder()
        .user_agent(concat!("clutchcall/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MOST_IDLE)
        // A receiver is where its owner said that it is.
        .redirect(redirect::Policy::none());
    if is_direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| format!("webhooks can't be sent: TLS can't be set up ({error})"))
}

fn is_here(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness; without it no id is unique");
    bytes
}

impl Poster {
    async fn deliver(&self, notice: &Notice) {
        // The same at every attempt: receivers know by it what they had already.
        let id = format!("msg_{}", hex(&random::<16>()));
        for attempt in 0.. {
            let said = self.post_in_turn(notice, &id).await;
            let why = match said {
                Ok(status) if status.is_success() => {
                    self.counts.delivered.fetch_add(1, Relaxed);
                    return;
                }
                Ok(status) => status.as_u16().to_string(),
                Err(why) => why,
            };
            let pause = self.pace.pause(attempt, random::<1>()[0]).filter(|_| why != StatusCode::GONE.as_str());
            let Some(pause) = pause else {
                self.counts.given_up.fetch_add(1, Relaxed);
                let url = crate::net::shown::shown(notice.url.as_str());
                return tracing::warn!(sid = %notice.lane, url, why, "a webhook is given up");
            };
            self.counts.retried.fetch_add(1, Relaxed);
            tracing::debug!(sid = %notice.lane, why, ?pause, "a webhook is tried again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn post_in_turn(&self, notice: &Notice, id: &str) -> Result<StatusCode, String> {
        let places = self.places_of(&notice.org);
        let closed = |_| "the engine ends".to_owned();
        let _own = places.acquire().await.map_err(closed)?;
        let _of_all = self.posts.acquire().await.map_err(closed)?;
        self.post(notice, id).await
    }

    /// Those of organisations that have nothing to post are forgotten.
    fn places_of(&self, org: &str) -> Arc<Semaphore> {
        let mut posts_of = self.posts_of.lock().unwrap_or_else(PoisonError::into_inner);
        posts_of.retain(|known, places| known == org || Arc::strong_count(places) > 1);
        let places = posts_of.entry(org.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(MOST_POSTS_OF_ORG)));
        Arc::clone(places)
    }

    async fn post(&self, notice: &Notice, id: &str) -> Result<StatusCode, String> {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let client = if is_here(&notice.url) { &self.direct } else { &self.client };
        let mut request = client
            .post(notice.url.clone())
            .timeout(self.pace.limit)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", unix_s.to_string());
        if let Some(secret) = self.secrets.get(&notice.org) {
            request = request.header("webhook-signature", secret.sign(id, unix_s, &notice.body));
        }
        let answer = request.body(notice.body.clone()).send().await;
        // The body of the answer is nobody's: dropping it closes the connection if it is not there yet.
        answer.map(|answer| answer.status()).map_err(|error| error.without_url().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Callback;
    use super::*;
    use crate::call::CallRecord;

    #[test]
    fn a_receiver_that_never_answers_holds_up_its_own_organisation_alone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Connections to it are made, and nobody reads them.
            let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = |address: std::net::SocketAddr, org: &str| Callback {
                url: format!("http://{address}/").parse().unwrap(),
                org: org.to_owned(),
            };
            let pace = Pace { limit: Duration::from_secs(300), ..Pace::default() };
            let (deliveries, hooks) = Deliveries::new(BTreeMap::new(), pace, Arc::default()).unwrap();
            for n in 0..MOST_POSTS {
                let row = CallRecord::ringing(format!("CA{n}"), 0).row();
                hooks.tell(&to(dead.local_addr().unwrap(), "down"), &row, 0);
            }
            let row = CallRecord::ringing("CB".to_owned(), 0).row();
            hooks.tell(&to(live.local_addr().unwrap(), "up"), &row, 0);
            let task = tokio::spawn(deliveries.run());
            tokio::time::timeout(Duration::from_secs(20), live.accept()).await.expect("it is posted").unwrap();
            task.abort();
        });
    }

    #[test]
    fn pauses_grow_and_end() {
        let pace = Pace { attempts: 6, first_pause: Duration::from_secs(1), limit: Duration::from_secs(1) };
        let pauses: Vec<u64> = (0..).map_while(|attempt| pace.pause(attempt, 0)).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [1, 5, 25, 125, 300]);
        assert_eq!(pace.pause(0, 255).unwrap().as_millis(), 1249);
        assert_eq!(Pace { attempts: 1, ..pace }.pause(0, 0), None);
    }
}
