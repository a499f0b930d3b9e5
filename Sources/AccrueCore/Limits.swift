/// Every limit of the system, in one place. A value above its limit is refused with `limitExceeded`, naming the limit.
public enum Limits {
    /// Frames in one multipart message, identity frames not counted.
    public static let messagePartsMax = 16
    /// One frame on any socket. What is larger moves in pieces of at most `pieceBytesMax`; a pushed chunk that fits comes whole.
    public static let frameBytesMax = 4 << 20
    /// One piece of a bulk transfer.
    public static let pieceBytesMax = 1 << 20
    /// Pieces of one transfer that may be under way (asked for, not answered).
    public static let piecesInFlightMax = 8
    /// One JSON header.
    public static let headerBytesMax = 1 << 20
    /// Lists and objects within one another in JSON.
    public static let jsonDepthMax = 128
    /// One pushed chunk, as safetensors bytes.
    public static let chunkBytesMax = 256 << 20
    /// Chunks in one push; together they fit a frame.
    public static let pushChunksMax = 128
    /// Rows of one chunk.
    public static let chunkRowsMax = 10_000_000
    /// One state, work, delta or moments blob.
    public static let blobBytesMax = 4 << 30
    /// The JSON header of a safetensors file.
    public static let safetensorsHeaderBytesMax = 16 << 20
    /// Tensors in one safetensors file.
    public static let safetensorsTensorsMax = 100_000
    /// Dimensions of one tensor.
    public static let tensorDimensionsMax = 8
    /// Bytes of a producer's key.
    public static let keyBytesMax = 512
    /// Characters of a pipeline's name.
    public static let pipelineNameCharactersMax = 64
    /// Pipelines of one coordinator.
    public static let pipelinesMax = 200
    /// Chunks of one round; a lease names all of its chunks in one header.
    public static let roundChunksMax = 2_000
    /// Shards of one round.
    public static let shardsMax = 4_096
    /// Sweeps of one round.
    public static let sweepsMax = 10_000
    public static let replicasMax = 3
    /// Chunks that may wait unabsorbed in one pipeline before pushes are refused (`busy`).
    public static let waitingChunksMax = 100_000
    /// Milliseconds that a querier may let a query wait for others.
    public static let queryWindowMsMax = 1_000
    /// Rows of one query.
    public static let queryRowsMax = 100_000
    /// Draws of one query.
    public static let queryDrawsMax = 4_096
    /// Messages that wait for one peer that cannot be reached.
    public static let outboxMessagesMax = 10_000
    /// Bytes of all messages that wait on one socket for peers that cannot take them; what comes then is lost, and asked for again.
    public static let outboxBytesMax = 256 << 20
    /// Keys that may be authorised at a time; all are listed in one message.
    public static let authorisedKeysMax = 4_000
    /// Workers that may be joined to one coordinator.
    public static let workersMax = 1_024
    /// Items of one page of an inventory or listing.
    public static let pageItemsMax = 1_000
    /// HTTP connections at a time; more wait until one closes. A process may have 1,024 open files where nobody says otherwise.
    public static let httpConnectionsMax = 256
    /// Bytes of the bodies of all HTTP requests under way, and of the versions that are being sent; what would be more is refused as `unavailable`.
    public static let httpBodiesBytesMax = 512 << 20
    /// How often a JSON body's bytes count, which take as much room and more once they are read.
    public static let httpJSONFactor = 8
    /// Bytes of the body of an HTTP request with JSON tensors, or with a question.
    public static let httpTextBytesMax = 32 << 20
    /// Streams of events over HTTP at a time.
    public static let httpEventStreamsMax = 64
    /// Milliseconds after which an HTTP connection without a request is closed.
    public static let httpIdleMs = 60_000
    /// Milliseconds that an HTTP request may ask to wait.
    public static let httpWaitMsMax = 60_000
}
