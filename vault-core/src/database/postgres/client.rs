//! A connection that blocks: the driver's requests and the line that carries them, on an async runtime
//! of its own, which works only while somebody waits for an answer.

use core::future::{Future, poll_fn};
use core::ops::ControlFlow;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use futures_util::TryStreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::coop::{RestoreOnPending, poll_proceed};
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Config, Connection, Error, Row, Socket};

use super::Parameter;

/// A connection to a server. The fields are dropped in their order: nobody asks any more when the line
/// says goodbye.
pub(crate) struct Client {
    requests: tokio_postgres::Client,
    line: Line,
}

impl Client {
    pub(super) fn connect<T>(config: &Config, tls: T) -> Result<Self, ConnectError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        <T as MakeTlsConnect<Socket>>::TlsConnect: TlsConnect<Socket, Stream = T::Stream>,
    {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ConnectError::Runtime)?;
        let (requests, connection) = runtime.block_on(config.connect(tls)).map_err(ConnectError::Server)?;
        Ok(Self { requests, line: Line { runtime, messages: Some(Box::new(connection)) } })
    }

    /// Whether the line is known to be down.
    pub(super) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Runs statements that have no parameters.
    pub(crate) fn batch_execute(&mut self, statements: &str) -> Result<(), Error> {
        self.line.wait(self.requests.batch_execute(statements))
    }

    /// The rows of a statement.
    pub(crate) fn query_typed(&mut self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        self.line.wait(self.requests.query_typed(statement, parameters))
    }

    /// The only row of a statement.
    pub(crate) fn query_typed_one(&mut self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Row, Error> {
        self.line.wait(self.requests.query_typed_one(statement, parameters))
    }

    /// The same. While the server works on it, `beside` is called again and again until it says that
    /// there is no more to do.
    pub(crate) fn query_typed_one_beside(
        &mut self,
        statement: &str,
        parameters: &[Parameter<'_>],
        beside: &dyn Fn() -> bool,
    ) -> Result<Row, Error> {
        self.line.wait_beside(self.requests.query_typed_one(statement, parameters), beside)
    }

    /// The only row of a statement, if there is one.
    pub(crate) fn query_typed_opt(
        &mut self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, Error> {
        self.line.wait(self.requests.query_typed_opt(statement, parameters))
    }

    /// Gives `each` the rows of a statement one after the other, as long as it wants them.
    pub(crate) fn query_each(
        &mut self,
        statement: &str,
        parameters: &[Parameter<'_>],
        mut each: impl FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let parameters = parameters.iter().map(|(value, kind)| (*value, kind.clone()));
        self.line.wait(async {
            let mut rows = pin!(self.requests.query_typed_raw(statement, parameters).await?);
            while let Some(row) = rows.try_next().await? {
                if each(&row).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Runs a statement, and tells how many rows it changed. `beside` as in
    /// [`query_typed_one_beside`](Self::query_typed_one_beside).
    pub(crate) fn execute_typed(
        &mut self,
        statement: &str,
        parameters: &[Parameter<'_>],
        beside: &dyn Fn() -> bool,
    ) -> Result<u64, Error> {
        self.line.wait_beside(self.requests.execute_typed(statement, parameters), beside)
    }
}

/// Whether this thread runs tasks of an async runtime, all of which would wait with it. One that a
/// runtime made for what blocks knows the runtime, too, but has no budget that it would have to keep to.
pub(crate) fn runs_tasks() -> bool {
    if Handle::try_current().is_err() {
        return false;
    }
    let context = &mut Context::from_waker(Waker::noop());
    // What is spent of the budget is given back with the first step.
    let first = poll_proceed(context);
    let ends = |step: Poll<RestoreOnPending>| match step {
        Poll::Ready(step) => {
            step.made_progress();
            false
        }
        Poll::Pending => true,
    };
    first.is_pending() || (0..=u8::MAX).any(|_| ends(poll_proceed(context)))
}

/// Why there is no connection.
pub(super) enum ConnectError {
    /// The machine gives no runtime.
    Runtime(std::io::Error),
    /// The server cannot be reached, or does not let us in.
    Server(Error),
}

/// What carries requests and answers.
struct Line {
    runtime: Runtime,
    /// None when it has ended.
    messages: Option<Box<dyn Messages + Send>>,
}

impl Line {
    /// Carries messages until `answer` is there.
    fn wait<T>(&mut self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut answer = pin!(answer);
        self.runtime.block_on(poll_fn(|context| {
            let ended = carry(&mut self.messages, context);
            match (answer.as_mut().poll(context), ended) {
                // Why the line ended says more than that it did, and less than an answer before that.
                (Poll::Ready(Err(error)), Poll::Ready(Err(end))) if error.is_closed() => Poll::Ready(Err(end)),
                (Poll::Pending, Poll::Ready(Err(end))) => Poll::Ready(Err(end)),
                (answer, _) => answer,
            }
        }))
    }

    /// The same, with other work in the meantime.
    fn wait_beside<T>(
        &mut self,
        answer: impl Future<Output = Result<T, Error>>,
        beside: &dyn Fn() -> bool,
    ) -> Result<T, Error> {
        let (mut asked, mut more) = (false, true);
        let mut answer = pin!(answer);
        self.wait(poll_fn(|context| {
            let answer = answer.as_mut().poll(context);
            if answer.is_pending() && more {
                // The line comes first, with the request and then with what it could not carry yet.
                more = !core::mem::replace(&mut asked, true) || beside();
                context.waker().wake_by_ref();
            }
            answer
        }))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let goodbye = poll_fn(|context| carry(&mut self.messages, context));
        let _ = self.runtime.block_on(async { timeout(GOODBYE, goodbye).await });
    }
}

/// Sends what is to be sent and hands out what has come; ready when the line has ended.
fn carry(line: &mut Option<Box<dyn Messages + Send>>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
    while let Some(messages) = line {
        match messages.poll(context) {
            // Notices, whose text may quote values.
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => *line = None,
            Poll::Ready(Some(Err(error))) => {
                *line = None;
                return Poll::Ready(Err(error));
            }
        }
    }
    Poll::Ready(Ok(()))
}

/// A connection, with TLS or without.
trait Messages {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>>;
}

impl<S, T> Messages for Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> {
        self.poll_message(context)
    }
}

/// How long the end of a connection is waited for.
const GOODBYE: Duration = Duration::from_secs(1);
