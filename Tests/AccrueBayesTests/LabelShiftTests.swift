import AccrueBayes
import AccrueCore
import AccrueTensor
import Foundation
import Testing

@Suite("Label shift")
struct LabelShiftTests {
    @Test("classes are counted, and the softmax of their log shares are the shares with half a row each")
    func shares() throws {
        #expect(try LabelShift.counts(Tensor([2, 0, 2, 2]), classes: 4) == [1, 0, 3, 0])
        let logs = LabelShift.logShares([1, 0, 3, 0]), total = logs.reduce(0) { $0 + exp($1) }
        for (log, rows) in zip(logs, [1.0, 0, 3, 0]) { #expect(abs(exp(log) / total - (rows + 0.5) / 6) < 1e-12) }
        #expect(LabelShift.logShares([7, 7, 7]) == [0, 0, 0])
        #expect(LabelShift.logShares([0, 0]) == [0, 0])
    }

    @Test("a shift moves the outputs and nothing else")
    func outputs() throws {
        let network = Network(
            layers: [.affine(.init("hidden", .dense, inputs: 3, outputs: 5)), .relu, .affine(.init("output", .dense, inputs: 5, outputs: 2))], inputShape: [3])
        let shift = try network.outputShift([0.25, -2])
        #expect(try shift.names == ["output.bias"] && shift.tensor("output.bias").floats() == [0.25, -2])
        let bare = Network(layers: [.affine(.init("output", .dense, inputs: 3, outputs: 2, hasBias: false))], inputShape: [3])
        #expect { try bare.outputShift([0, 0]) } throws: { "\($0)".contains("no bias") }
    }
}
