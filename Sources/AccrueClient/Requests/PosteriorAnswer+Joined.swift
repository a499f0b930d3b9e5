import AccrueCore
import Foundation

extension PosteriorAnswer {
    /// The answer about all rows, from the answers about consecutive stretches of them.
    ///
    /// Rows follow each other in the tensors; the sums in `score` add, and the figures are made from them, so that they are those of one question about
    /// all rows (but for rounding); means are weighted by rows.
    /// - Throws: `invalidInput` for no part; `conflict` when the parts are of different versions; `unavailable` when they do not fit together.
    static func joined(_ parts: [PosteriorAnswer], while operation: String) throws(AccrueError) -> PosteriorAnswer {
        guard let first = parts.first else { throw AccrueError(.invalidInput, while: operation, "there are no rows", hint: "ask about at least one row") }
        guard parts.count > 1 else { return first }
        guard parts.allSatisfy({ $0.reply.version == first.reply.version }) else {
            throw AccrueError(.conflict, while: operation, "the pipeline was made anew between two parts of the question", hint: "ask again")
        }
        var answer = first
        answer.reply.header = .object(try header(parts.map(\.reply.header), while: operation))
        for (name, tensor) in first.tensors {
            var data = Data(), rows = 0
            for part in parts {
                guard let next = part.tensors[name], next.dtype == tensor.dtype, next.shape.dropFirst() == tensor.shape.dropFirst() else {
                    throw AccrueError(.unavailable, while: operation, "the answers about the rows' parts differ in tensor '\(name)'", hint: "ask about fewer rows at a time")
                }
                data.append(next.data)
                rows += next.rowCount
            }
            answer.tensors[name] = TensorBytes(dtype: tensor.dtype, shape: [rows] + tensor.shape.dropFirst(), data: data)
        }
        return answer
    }

    private static func header(_ headers: [JSONValue], while operation: String) throws(AccrueError) -> [String: JSONValue] {
        let rows = headers.map { $0["rows"]?.int ?? 0 }
        let total = rows.reduce(0, +)
        var result = headers[0].object ?? [:]
        result["rows"] = .integer(total)
        for name in result.keys where name.hasPrefix("mean") {
            let sum = zip(headers, rows).reduce(0) { $0 + ($1.0[name]?.double ?? .nan) * Double($1.1) }
            result[name] = .number(sum / Double(max(1, total)))
        }
        guard result["figures"] != nil else { return result }
        var pooled: Score?
        for header in headers {
            guard let score = header["score"] else {
                throw AccrueError(
                    .limitExceeded, while: operation, "this method's figures about parts of the rows cannot be put together", hint: "ask about at most \(rows[0]) rows at a time")
            }
            let part: Score = try score.decode(while: operation)
            if pooled == nil { pooled = part } else { pooled?.merge(part) }
        }
        result["figures"] = .object((pooled?.figures ?? [:]).mapValues { .number($0) })
        result["score"] = try pooled.map { score throws(AccrueError) in try JSONValue(encoding: score) }
        return result
    }
}
