import AccrueCore
import AccrueTensor

/// What members of a network say of rows: [draws, rows, outputs].
struct DrawnOutputs: Sendable {
    let draws: Int
    let rows: Int
    let outputs: Int
    private let values: [Float]

    /// Rows that go through a network at once where it is computed layer after layer; part of what makes such answers repeatable.
    static let rowsAtOnce = 250
    /// Rows of a question up to which outputs of large dense layers are drawn in place of their weights.
    static let fewRows = 4

    /// - Parameters:
    ///   - inputs: at most `rowsAtOnce` rows, as the network reads them.
    ///   - questionRows: of the question that they belong to, or of the largest of several; nil: as many. What is drawn depends on it.
    /// - Throws: `invalidInput` for no members, or inputs that do not fit.
    init(_ inputs: Tensor, ofQuestion questionRows: Int? = nil, network: Network, members: PreparedMembers) throws(AccrueError) {
        draws = members.draws.count
        rows = inputs.rowCount
        var values: [Float] = []
        if let packed = Self.packed(members, questionRows: questionRows ?? rows) {
            values = try PackedNetwork.outputs(packed, inputs, threads: PackedNetwork.threads(packed, rows: rows))
        } else {
            for member in members.networks { values += try Self.outputs(inputs, network: network, member: member) }
        }
        if members.linearisation != nil {
            let centre = values.prefix(values.count / (draws + 1))
            values = values.dropFirst(centre.count).enumerated().map { Linearisation.reached($1, from: centre[$0 % centre.count]) }
        }
        self.values = values
        outputs = values.count / max(1, draws * rows)
    }

    /// Whether rows may share a pass: their outputs are then the same bits alone or in company.
    static func keepsRowsApart(_ members: PreparedMembers) -> Bool { packed(members, questionRows: rowsAtOnce) != nil }

    /// The members' networks where all are packed, in the form that a question of so many rows is answered with.
    private static func packed(_ members: PreparedMembers, questionRows: Int) -> [PackedNetwork]? {
        if questionRows <= fewRows, members.linearisation == nil {
            let few = members.draws.compactMap(\.fewRowsForm)
            if !few.isEmpty, few.count == members.draws.count { return few }
        }
        var result: [PackedNetwork] = []
        result.reserveCapacity(members.draws.count + 1)
        for member in members.networks {
            guard case .packed(let network) = member.form else { return nil }
            result.append(network)
        }
        return result.isEmpty ? nil : result
    }

    private static func outputs(_ inputs: Tensor, network: Network, member: PreparedMember) throws(AccrueError) -> [Float] {
        switch member.form {
        case .packed(let packed): return try PackedNetwork.outputs([packed], inputs)
        case .plain(let member): return try network.outputs(inputs, member).cast(to: .f32).floats()
        }
    }

    /// One output.
    subscript(draw: Int, row: Int, output: Int) -> Double { Double(values[(draw * rows + row) * outputs + output]) }

    /// - Throws: `diverged` unless all outputs of these rows are finite.
    func checkFinite(_ range: Range<Int>) throws(AccrueError) {
        for draw in 0..<draws {
            let first = draw * rows
            guard values[(first + range.lowerBound) * outputs..<(first + range.upperBound) * outputs].allSatisfy(\.isFinite) else {
                throw AccrueError(.diverged, while: "predicting", "an output is not finite", hint: "check the inputs, or ask an earlier version")
            }
        }
    }
}
