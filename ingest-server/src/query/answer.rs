//! An answer of many parts: a task produces, a short queue holds back, and dropping the answer stops the task.
//!
//! # Invariants
//! - I12: at most [`limits::PARTS_QUEUED`] parts wait, for at most [`limits::SLOW_SECONDS_MAX`]; the caller's deadline ends the task.
//! - An answer that breaks ends in an error, never as if it were complete.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::error::QueryError;
use super::limits;

/// See the module's documentation.
pub struct Answer<T> {
    parts: mpsc::Receiver<Result<T, Status>>,
    /// None once it is known how the task ended.
    producer: Option<JoinHandle<()>>,
}

/// Where the task puts its parts.
pub(super) struct Parts<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Parts<T> {
    /// Waits until there is room.
    pub(super) async fn send(&self, part: T) -> Result<(), QueryError> {
        let sent = self.0.send_timeout(Ok(part), limits::SLOW_SECONDS_MAX).await;
        sent.map_err(|_| QueryError::Deadline)
    }
}

impl<T: Send + 'static> Answer<T> {
    /// Starts the task. `permit` is held as long as it runs.
    pub(super) fn start<F, P>(deadline: Option<Instant>, permit: OwnedSemaphorePermit, produce: P) -> Self
    where
        F: Future<Output = Result<(), QueryError>> + Send + 'static,
        P: FnOnce(Parts<T>) -> F,
    {
        let (sender, parts) = mpsc::channel(limits::PARTS_QUEUED);
        let produced = produce(Parts(sender.clone()));
        let producer = tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = within(deadline, produced).await {
                // A caller that does not listen any more needs no reason.
                let _ = sender.send_timeout(Err(error.into()), limits::SLOW_SECONDS_MAX).await;
            }
        });
        Self {
            parts,
            producer: Some(producer),
        }
    }
}

/// What would take longer than the caller allows.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, QueryError> {
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout_at(deadline, work)
            .await
            .unwrap_or(Err(QueryError::Deadline)),
    }
}

impl<T> Stream for Answer<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.parts.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(part)) => Poll::Ready(Some(part)),
            Poll::Ready(None) => {
                let Some(producer) = &mut self.producer else {
                    return Poll::Ready(None);
                };
                let Poll::Ready(ended) = Pin::new(producer).poll(context) else {
                    return Poll::Pending;
                };
                self.producer = None;
                let broken = || {
                    Status::new(
                        Code::Internal,
                        "the answer broke off inside the server: its log says why",
                    )
                };
                Poll::Ready(ended.err().map(|_| Err(broken())))
            }
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(producer) = &self.producer {
            producer.abort();
        }
    }
}

/// Until when the caller waits, by the header `grpc-timeout`. One that is no such header counts as none.
pub(super) fn deadline(metadata: &MetadataMap, now: Instant) -> Option<Instant> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    now.checked_add(timeout(text)?)
}

fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Semaphore;
    use tokio_stream::StreamExt;

    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(timeout("10S"), Some(Duration::from_secs(10)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "S", "10", "-1S", "999999999S", "1é", "1 S"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }

    async fn permit(all: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        all.clone().acquire_owned().await.expect("it is never closed")
    }

    #[tokio::test]
    async fn a_dropped_answer_stops_its_task_and_frees_its_place() {
        let all = Arc::new(Semaphore::new(1));
        let answer: Answer<u32> = Answer::start(None, permit(&all).await, |parts| async move {
            loop {
                parts.send(1).await?;
            }
        });
        drop(answer);
        // Returns only when the task is gone.
        let _again = permit(&all).await;
    }

    #[tokio::test]
    async fn i12_a_slow_caller_holds_the_task_back() {
        let all = Arc::new(Semaphore::new(1));
        let overrun = Arc::new(AtomicBool::new(false));
        let set = overrun.clone();
        let mut answer: Answer<usize> = Answer::start(None, permit(&all).await, |parts| async move {
            for part in 0..=limits::PARTS_QUEUED {
                parts.send(part).await?;
            }
            set.store(true, Ordering::SeqCst);
            Ok(())
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(
            !overrun.load(Ordering::SeqCst),
            "I12: no more than the queue holds is produced"
        );
        let mut parts = Vec::new();
        while let Some(part) = answer.next().await {
            parts.push(part.expect("a part"));
        }
        assert_eq!(parts, (0..=limits::PARTS_QUEUED).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_answer_that_breaks_never_looks_complete() {
        let all = Arc::new(Semaphore::new(1));
        let mut panics: Answer<u32> = Answer::start(None, permit(&all).await, |parts| async move {
            parts.send(1).await?;
            panic!("on purpose");
        });
        assert_eq!(panics.next().await.expect("a part").expect("a part"), 1);
        assert_eq!(
            panics.next().await.expect("an error").expect_err("an error").code(),
            Code::Internal
        );
        let past = Some(Instant::now());
        let mut late: Answer<u32> = Answer::start(past, permit(&all).await, |_parts| std::future::pending());
        assert_eq!(
            late.next().await.expect("an error").expect_err("an error").code(),
            Code::DeadlineExceeded
        );
        assert!(late.next().await.is_none());
    }
}
