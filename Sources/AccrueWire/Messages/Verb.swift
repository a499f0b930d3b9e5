/// Every verb of the protocol. A message's verb travels as text; these are the ones that mean something.
public enum Verb: String, Sendable, CaseIterable {
    // Answers, on every socket.
    case reply, refuse
    // control: everybody to the coordinator.
    case hello, status, flush, await, events
    case pipelineApply = "pipeline.apply"
    case pipelineList = "pipeline.list"
    case pipelineShow = "pipeline.show"
    case pipelineDelete = "pipeline.delete"
    case pipelineResume = "pipeline.resume"
    case chunksList = "chunks.list"
    case chunksRetry = "chunks.retry"
    case chunksSetAside = "chunks.setAside"
    case posteriorList = "posterior.list"
    case posteriorShow = "posterior.show"
    case posteriorImport = "posterior.import"
    // control: workers and queriers to the coordinator.
    case heartbeat, inventory, announce, ready, done, failed, pipelines, keys
    // control: the coordinator to workers, unasked.
    case lease, cancel, drop
    // bulk.
    case blobPut = "blob.put"
    case blobGet = "blob.get"
    // ingest.
    case push, replicate, fetch
    // query.
    case query
    // events: published hints.
    case hint
}
