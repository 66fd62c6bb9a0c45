//! [`Engine`]: a running engine. It starts its parts in order and ends them in reverse.
//!
//! The control thread starts here: one tokio `current_thread` runtime for the API, the board of calls, timers and trunks. Store,
//! relay and audio threads start in their own rooms; the engine owns them all, and none outlives it.
//!
//! At the end calls get `server_shutdown`, both tracks END_OF_TRACK, the store its last records; then the audio threads go,
//! then the relay, so that the last words still pass through it; whoever is still there is sent away by GOAWAY first.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc as blocking};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

use super::agents::{Agent, Echo, Play, Said};
use super::api::{self, Api};
use super::calls::{Announcement, Line, MakeAgent, Media, Minter, Parts, Relays, Task};
use super::config::{AgentKind, Config, Inbound, Then, TrunkKind};
use super::media::{self, AudioThreads};
use super::metrics::Metrics;
use super::outside::{self, Outside};
use super::phone::{Phone, PhoneConfig, PhoneTrunk};
use super::sip::{self, Endpoints, SipTrunk, Timers};
use super::store::{Bounds, Sqlite, Store};
use super::trunk::{Trunk, TrunkEvent};
use super::webhooks::Deliveries;
use crate::call::wire::RelayRef;
use crate::relay;
use crate::token::PublicKey;

/// The record store's file in the state folder.
const STORE_FILE: &str = "calls.db";
/// Sessions of the engine's own relay have this long to go, once its calls have ended.
const DISMISS_WITHIN: Duration = Duration::from_secs(1);

/// A running engine. Dropping it is [`Engine::shutdown`].
pub struct Engine {
    base_url: String,
    reference: RelayRef,
    api_key: Option<String>,
    org_id: Option<String>,
    phone: PhoneConfig,
    state: PathBuf,
    public_key: PublicKey,
    ending: watch::Sender<bool>,
    /// The files of the API are to be read again.
    reload: Arc<Notify>,
    control: Option<JoinHandle<()>>,
    relay: Option<relay::Server>,
}

/// What the control thread is given.
struct Control {
    config: Config,
    phone: PhoneConfig,
    store: Arc<dyn Store>,
    minter: Arc<Minter>,
    outside: Outside,
    ending: watch::Receiver<bool>,
    reload: Arc<Notify>,
}

impl Engine {
    /// Blocks until it serves. The error names the setting and the remedy.
    pub fn start(config: Config) -> Result<Self, String> {
        outside::make_folder(&config.state)?;
        let key = outside::signing_key(&config.state)?;
        let public_key = key.public();
        let bounds = Bounds::new(config.limits.records, config.limits.record_days, config.limits.store_mb);
        let store = Arc::new(Sqlite::open(&config.state.join(STORE_FILE), bounds)?);
        let (relay, outside) = outside::open(&config, public_key)?;
        let (ending, told) = watch::channel(false);
        let mut engine = Self {
            base_url: String::new(),
            reference: outside.reference.clone(),
            api_key: config.minted.as_ref().map(|minted| minted.key.clone()),
            org_id: config.minted.as_ref().map(|minted| minted.org.clone()),
            phone: PhoneConfig::from(&config.phone),
            state: config.state.clone(),
            public_key,
            ending,
            reload: Arc::default(),
            control: None,
            relay,
        };
        let (phone, minter) = (engine.phone.clone(), Arc::new(Minter::new(key, config.limits.token_ttl)));
        let (reload, scheme) =
            (Arc::clone(&engine.reload), if config.api.certificate.is_some() { "https" } else { "http" });
        engine.begin(scheme, Control { config, phone, store, minter, outside, ending: told, reload })?;
        Ok(engine)
    }

    fn begin(&mut self, scheme: &str, control: Control) -> Result<(), String> {
        let (ready, serving) = blocking::sync_channel(1);
        let run = move || control.run(&ready);
        let thread = std::thread::Builder::new().name("engine-control".to_owned()).spawn(run);
        self.control = Some(thread.map_err(|e| format!("the engine's control thread can't start: {e}"))?);
        let address = serving.recv().map_err(|_| "the engine's control thread died at its start".to_owned())??;
        self.base_url = format!("{scheme}://{}", outside::reachable(address));
        Ok(())
    }

    /// Where the API is, without a trailing slash.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What bridges are told to dial.
    pub fn relay_url(&self) -> &str {
        &self.reference.url
    }

    /// The key that was minted for this run ([`Config::dev`]).
    pub fn api_key(&self) -> Option<&str> {
        self.api_key.as_deref()
    }

    /// Whose key that is.
    pub fn org_id(&self) -> Option<&str> {
        self.org_id.as_deref()
    }

    /// Checks the tokens of this engine; a relay elsewhere is started with it.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where the simulated phone puts what it hears, and where that of one call is.
    pub fn phone_record_dir(&self) -> Option<&Path> {
        self.phone.record.as_deref()
    }

    /// How the simulated phone behaves.
    pub fn phone(&self) -> &PhoneConfig {
        &self.phone
    }

    /// Reads again what may change in files: API keys, keys and revocations of its own relay, and the certificates of both.
    pub fn reload(&self) {
        self.reload.notify_one();
        if let Some(relay) = &self.relay {
            relay.reload();
        }
    }

    /// Ends every call and everything that was started; blocks until it is done.
    pub fn shutdown(self) {}
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The control thread may have gone already.
        let _ = self.ending.send(true);
        if let Some(control) = self.control.take()
            && control.join().is_err()
        {
            tracing::error!("the engine's control thread panicked");
        }
        if let Some(relay) = self.relay.take() {
            relay.dismiss(DISMISS_WITHIN);
        }
    }
}

impl Control {
    fn run(self, ready: &blocking::SyncSender<Result<SocketAddr, String>>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return drop(ready.send(Err(format!("the control thread can't begin: {e}")))),
        };
        match runtime.block_on(self.assemble()) {
            Ok((address, serving)) => {
                drop(ready.send(Ok(address)));
                runtime.block_on(serving.run());
            }
            Err(error) => drop(ready.send(Err(error))),
        }
        // A name server that does not answer must not hold up the end.
        runtime.shutdown_background();
    }

    async fn assemble(self) -> Result<(SocketAddr, Serving), String> {
        let Self { config, phone, store, minter, outside, ending, reload } = self;
        let (files, keys) = api::Files::open(&config)?;
        let (listen, tls) = (config.api.listen, files.tls()?);
        let listener = TcpListener::bind(listen).await.map_err(|e| {
            format!("api.listen {listen} can't be bound ({e}): stop what uses it, or choose another port")
        })?;
        let address = listener.local_addr().map_err(|e| format!("api.listen {listen}: {e}"))?;
        let (trunk_sender, trunk_events) = mpsc::unbounded_channel();
        let (media_sender, media_events) = mpsc::unbounded_channel();
        let metrics = Arc::<Metrics>::default();
        let servers = sip::Servers::new(config.dns.servers.clone());
        let endpoints = Endpoints::counting(Timers::default(), metrics.sip()).asking(servers);
        let (lines, phone, past) = lines(&config, &phone, endpoints, &trunk_sender).await?;
        let mint = {
            let minter = Arc::clone(&minter);
            media::Mint { token: Arc::new(move || minter.engine()), life: config.limits.token_ttl }
        };
        let (supply, resolving) = outside.supply.open().await;
        let audio = Arc::new(AudioThreads::start(config.audio_threads, supply, mint, media_sender)?);
        let secrets = config.orgs.iter().filter_map(|(id, org)| Some((id.clone(), org.webhook_secret.clone()?)));
        let (deliveries, hooks) = Deliveries::new(secrets.collect(), config.webhooks.pace, metrics.webhooks())?;
        let (task, desk) = Task::new(Parts {
            hooks,
            node: config.node.clone(),
            max_calls: config.limits.calls,
            lines,
            trunk_events,
            agents: config.agents.iter().map(|(id, agent)| (id.clone(), make(agent.kind))).collect(),
            media: Box::new(Threads(Arc::clone(&audio))),
            media_events,
            store,
            minter,
            relay: Relays::new(outside.reference, outside.shards, outside.identity),
            metrics: Arc::clone(&metrics),
        });
        let door = api::Door { listener, tls, limits: config.limits.clone() };
        let beside = api::Beside { media: audio.gauges(), relay: outside.gauges, sip: past };
        let api = Arc::new(Api::new(&config, keys, desk.clone(), metrics, beside));
        Ok((address, Serving { door, api, files, reload, task, deliveries, desk, audio, phone, resolving, ending }))
    }
}

/// Everything that runs on the control thread.
struct Serving {
    door: api::Door,
    api: Arc<Api>,
    files: api::Files,
    reload: Arc<Notify>,
    task: Task,
    deliveries: Deliveries,
    desk: super::calls::Desk,
    audio: Arc<AudioThreads>,
    /// Behind trunks of kind `phone`; it hears of the end of its calls.
    phone: Option<Phone>,
    resolving: Option<outside::Resolving>,
    ending: watch::Receiver<bool>,
}

impl Serving {
    async fn run(self) {
        let Self { door, api, files, reload, task, deliveries, desk, audio, phone, resolving, mut ending } = self;
        let http = api::serve(door, Arc::clone(&api), ending.clone());
        let end = async {
            // An engine that is gone has ended too.
            drop(ending.wait_for(|ending| *ending).await);
            desk.shutdown().await;
        };
        let calls = async { tokio::join!(http, task.run(), deliveries.run(), end) };
        tokio::select! {
            _ = calls => {}
            () = outside::keep_resolving(resolving) => {}
            () = files.keep(&api, &reload) => {}
        }
        // The last owner: the board's share went with its task. This joins the audio threads.
        drop(audio);
        drop(phone);
    }
}

struct Threads(Arc<AudioThreads>);

impl Media for Threads {
    fn send(&mut self, command: media::Command) {
        self.0.send(command);
    }
}

/// Every trunk of the config, opened, and the phone behind those that want one. Each error names its trunk.
async fn lines(
    config: &Config,
    phone: &PhoneConfig,
    mut endpoints: Endpoints,
    events: &mpsc::UnboundedSender<TrunkEvent>,
) -> Result<(BTreeMap<String, Line>, Option<Phone>, Vec<sip::Past>), String> {
    let (mut lines, mut open) = (BTreeMap::new(), None::<Phone>);
    for (id, trunk) in &config.trunks {
        let carrier: Result<Box<dyn Trunk>, String> = match &trunk.kind {
            TrunkKind::Phone => to_phone(&mut open, phone, &mut endpoints, events).await,
            TrunkKind::Sip(sip) => carrier(sip, (id.as_str(), &trunk.inbound), &mut endpoints, events).await,
        };
        let line = Line {
            trunk: carrier.map_err(|error| format!("trunks.{id}: {error}"))?,
            org: trunk.org.clone(),
            channel_limit: trunk.channel_limit,
            max_cps: trunk.max_cps,
            caller_ids: trunk.caller_ids.clone(),
            transfer_mode: trunk.transfer_mode(),
            inbound: trunk.inbound.clone(),
            announcement: announcement(&trunk.inbound).map_err(|error| format!("trunks.{id}: {error}"))?,
        };
        lines.insert(id.clone(), line);
    }
    let mut past = endpoints.past();
    past.extend(open.iter().flat_map(Phone::past));
    Ok((lines, open, past))
}

/// A trunk to the phone of this engine, which is opened with the first of them.
async fn to_phone(
    open: &mut Option<Phone>,
    config: &PhoneConfig,
    endpoints: &mut Endpoints,
    events: &mpsc::UnboundedSender<TrunkEvent>,
) -> Result<Box<dyn Trunk>, String> {
    let address = match open {
        Some(phone) => phone.address(),
        None => open.insert(Phone::open(config.clone(), (Ipv4Addr::LOCALHOST, 0).into()).await?).address(),
    };
    Ok(Box::new(PhoneTrunk::open(address, endpoints, events.clone()).await?))
}

/// What `PLAY_AND_HANGUP` plays, read once.
fn announcement(inbound: &Inbound) -> Result<Option<Announcement>, String> {
    let plays = inbound.rules.iter().find_map(|rule| match &rule.then {
        Then::Play { audio_file } => Some(audio_file),
        _ => None,
    });
    let Some(file) = plays else { return Ok(None) };
    let said = Said::read(file).map_err(|error| format!("reject_audio_file {}: {error}", file.display()))?;
    let (length, said) = (said.length(), Arc::new(said));
    let make: MakeAgent = Arc::new(move || -> Box<dyn Agent> { Box::new(Play::new(Arc::clone(&said))) });
    Ok(Some(Announcement { make, length }))
}

async fn carrier(
    settings: &super::config::SipTrunk,
    (id, inbound): (&str, &Inbound),
    endpoints: &mut Endpoints,
    events: &mpsc::UnboundedSender<TrunkEvent>,
) -> Result<Box<dyn Trunk>, String> {
    let local = sip::local(settings, endpoints.servers()).await?;
    let talks = sip::talks(settings, local.bind.ip())?;
    let endpoint = endpoints.at(&local).await?;
    let mut trunk = SipTrunk::new(endpoint, settings.clone(), talks, events.clone());
    trunk.receive_as(id, inbound);
    Ok(Box::new(trunk))
}

fn make(kind: AgentKind) -> MakeAgent {
    match kind {
        AgentKind::Echo => Arc::new(|| -> Box<dyn Agent> { Box::<Echo>::default() }),
    }
}
