//! What the proxy answers itself: a small page, and the header `x-allod-error` that tells programs why.

use crate::body::AnswerBody;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

pub(crate) const ERROR: HeaderName = HeaderName::from_static("x-allod-error");

/// Why the proxy answered itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Malformed,
    ToHttps,
    Method,
    NoRoute,
    NoFile,
    Range,
    BodyTooLarge,
    BodySlow,
    NoInstance,
    Stopped,
    ForeignListener,
    QueueFull,
    Connect,
    BadAnswer,
    Timeout,
    Paused,
    Drained,
    Internal,
}

impl Reason {
    /// The word in `x-allod-error`, the status, and the sentence on the page.
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Malformed => ("malformed", StatusCode::BAD_REQUEST, "The request is malformed."),
            Self::ToHttps => ("to_https", StatusCode::PERMANENT_REDIRECT, "This is served over https only."),
            Self::Method => ("method", StatusCode::METHOD_NOT_ALLOWED, "Files can only be read."),
            Self::NoRoute => ("no_route", StatusCode::NOT_FOUND, "Nothing is served under this name."),
            Self::NoFile => ("no_file", StatusCode::NOT_FOUND, "There is no such page."),
            Self::Range => ("range", StatusCode::RANGE_NOT_SATISFIABLE, "The file has no such part."),
            Self::BodyTooLarge => {
                ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, "The request is too large.")
            }
            Self::BodySlow => {
                ("body_timeout", StatusCode::REQUEST_TIMEOUT, "The request took too long to arrive.")
            }
            Self::NoInstance => ("no_instance", StatusCode::SERVICE_UNAVAILABLE, "The app is not running."),
            Self::Stopped => ("stopped", StatusCode::SERVICE_UNAVAILABLE, "The app is stopped."),
            Self::ForeignListener => {
                ("foreign_listener", StatusCode::SERVICE_UNAVAILABLE, "The app is not running.")
            }
            Self::QueueFull => {
                ("queue_full", StatusCode::SERVICE_UNAVAILABLE, "Too many requests are waiting.")
            }
            Self::Connect => ("connect", StatusCode::BAD_GATEWAY, "The app could not be reached."),
            Self::BadAnswer => ("bad_answer", StatusCode::BAD_GATEWAY, "The app broke off or made no sense."),
            Self::Timeout => ("timeout", StatusCode::GATEWAY_TIMEOUT, "The app did not answer in time."),
            Self::Paused => ("paused", StatusCode::GATEWAY_TIMEOUT, "The app is paused."),
            Self::Drained => {
                ("drained", StatusCode::GATEWAY_TIMEOUT, "The app was replaced before it answered.")
            }
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "The proxy failed."),
        }
    }

    /// The whole answer.
    pub(crate) fn answer(self) -> Response<AnswerBody> {
        let (word, status, sentence) = self.parts();
        page(word, status, sentence)
    }
}

/// The answer for a stopped app, with the operator's own sentence.
pub(crate) fn stopped(message: &str) -> Response<AnswerBody> {
    let (word, status, sentence) = Reason::Stopped.parts();
    page(word, status, if message.is_empty() { sentence } else { message })
}

/// The answer that sends a client to https with the same path. `host` was checked to be one.
pub(crate) fn to_https(host: &str, port: u16, path: &str) -> Response<AnswerBody> {
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(format!("https://{host}{port}{path}")))
    else {
        return Reason::Malformed.answer();
    };
    let mut answer = Reason::ToHttps.answer();
    answer.headers_mut().insert(header::LOCATION, location);
    answer
}

/// Whether an answer of the proxy's own comes before the request's body was read, so that the connection must end.
pub(crate) fn gives_up_on_body(answer: &Response<AnswerBody>) -> bool {
    let too_early = [StatusCode::BAD_REQUEST, StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE];
    too_early.contains(&answer.status()) && answer.headers().contains_key(ERROR)
}

fn page(word: &'static str, status: StatusCode, sentence: &str) -> Response<AnswerBody> {
    let reason = status.canonical_reason().unwrap_or_default();
    let html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{code} {reason}</title>\
         <body style=\"font-family:sans-serif;margin:4em auto;max-width:32em\"><h1>{reason}</h1><p>{text}</p></body>\n",
        code = status.as_u16(),
        text = escape(sentence)
    );
    let mut answer = Response::new(AnswerBody::full(Bytes::from(html)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(ERROR, HeaderValue::from_static(word));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    answer
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn an_operators_sentence_is_text_and_never_markup() {
        let body =
            stopped("back <script>soon</script> & better").into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("back &lt;script&gt;soon&lt;/script&gt; &amp; better"), "{text}");
    }

    #[test]
    fn what_the_proxy_could_not_reach_is_told_apart() {
        for (reason, status, word) in [
            (Reason::Connect, 502, "connect"),
            (Reason::NoInstance, 503, "no_instance"),
            (Reason::Timeout, 504, "timeout"),
        ] {
            let answer = reason.answer();
            assert_eq!((answer.status().as_u16(), answer.headers()[ERROR].to_str().unwrap()), (status, word));
        }
        assert_eq!(Reason::Method.answer().headers()[header::ALLOW], "GET, HEAD");
    }
}
