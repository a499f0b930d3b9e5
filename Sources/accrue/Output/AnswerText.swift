import AccrueClient
import AccrueCore

/// A posterior's answer as lines for people.
struct AnswerText {
    private let answer: PosteriorAnswer
    /// Names for what `probabilities` has a column each.
    private let classes: [String]?

    init(_ answer: PosteriorAnswer) {
        self.answer = answer
        classes = answer.reply.header["classes"]?.array?.compactMap(\.string)
    }

    var lines: [String] {
        var lines = [
            "version \(answer.reply.version) of pipeline '\(answer.reply.pipeline)', which absorbed \(answer.reply.absorbedChunks) chunks (\(answer.reply.absorbedRows) rows)"
        ]
        for (row, cells) in (answer.answers ?? []).enumerated() {
            var cells = cells.object ?? [:]
            let named = named(cells["probabilities"])
            if named != nil { cells["probabilities"] = nil }
            let parts = cells.sorted { $0.key < $1.key }.map { "\($0.key) \(Self.short($0.value))" }
            lines.append("row \(row): \(([named].compactMap(\.self) + parts).joined(separator: "  "))")
        }
        for (name, tensor) in answer.wholeTensors.sorted(by: { $0.key < $1.key }) {
            lines.append("\(name): \(tensor.dtype.rawValue) \(tensor.shape) \(Self.short(tensor.json))")
        }
        let fields = answer.fields
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) where name != "classes" { lines.append("\(name): \(Self.short(value))") }
        for (name, figure) in answer.figures.sorted(by: { $0.key < $1.key }) where fields[name] == nil { lines.append("\(name): \(Output.short(figure))") }
        return lines
    }

    private static let namedMax = 3

    /// The likeliest classes by their names, and what is left for the others.
    private func named(_ probabilities: JSONValue?) -> String? {
        guard let classes, let values = probabilities?.array?.compactMap(\.double), values.count == classes.count else { return nil }
        let sorted = zip(classes, values).sorted { $0.1 > $1.1 }
        var parts = sorted.prefix(Self.namedMax).map { "\($0.0) \(Output.short($0.1))" }
        let others = sorted.dropFirst(Self.namedMax)
        if !others.isEmpty { parts.append("\(others.count) others \(Output.short(others.reduce(0) { $0 + $1.1 }))") }
        return parts.joined(separator: ", ")
    }

    private static func short(_ value: JSONValue) -> String {
        switch value {
        case .number(let number): Output.short(number)
        case .array(let values) where values.count > 16: "[\(values.prefix(16).map(short).joined(separator: ", ")), … \(values.count) in all]"
        case .array(let values): "[\(values.map(short).joined(separator: ", "))]"
        default: value.canonical
        }
    }
}
