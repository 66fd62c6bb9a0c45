//! An API whose board says nothing.

use super::*;
use crate::engine::store::{Bounds, Sqlite};

/// The engine's own 504: every answer comes within [`ANSWER_LIMIT`], whatever holds it up.
#[test]
fn what_is_not_answered_in_time_is_a_gateway_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("calls.db"), Bounds::new(1000, 30, 10)).unwrap());
    let config = Config::dev(folder.path());
    let (desk, _board) = Desk::before_a_silent_board(store);
    let beside = Beside { media: Arc::default(), relay: None, sip: Vec::new() };
    let api = Api::new(&config, Vec::new(), desk, Arc::default(), beside);
    assert!(
        api.limit == ANSWER_LIMIT && ANSWER_LIMIT <= Duration::from_secs(25),
        "the vendor's clients give up at 30 s"
    );
    let api = Arc::new(Api { limit: Duration::from_millis(20), ..api });
    let key = &config.minted.as_ref().unwrap().key;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = [
        (Method::GET, "voice.calls.get", "?input=%7B%22sid%22%3A%22CA1%22%7D", ""),
        (Method::POST, "voice.calls.hangup", "", "{\"sid\":\"CA1\"}"),
    ];
    for (method, name, query, body) in asked {
        let request = Request::builder().method(method).uri(format!("/api/trpc/{name}{query}"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {key}")).body(Body::from(body)).unwrap();
        let (status, id, body) = runtime.block_on(async {
            let response = procedure(State(api.clone()), Path(name.to_owned()), request).await;
            let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
            let status = response.status();
            (status, id, axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap())
        });
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let (error, data) = (&told["error"], &told["error"]["data"]);
        assert_eq!(
            (status.as_u16(), &error["code"], &data["code"]),
            (504, &(-32504).into(), &"GATEWAY_TIMEOUT".into()),
            "{told}"
        );
        assert_eq!(
            (&data["httpStatus"], &data["retryable"], &data["requestId"]),
            (&504.into(), &true.into(), &id.into())
        );
        assert!(error["message"].as_str().unwrap().contains("no answer within 0.02 s"), "{told}");
    }
}
