import AccrueBayes
import AccrueCore
import Testing

@Suite("Moments and means that merge")
struct MomentsTests {
    static func moments(_ values: [Double]) -> Moments {
        var moments = Moments(dimension: 1)
        for value in values { moments.add([value]) }
        return moments
    }

    @Test("three values have their known mean and variance")
    func known() {
        let moments = Self.moments([0, 2, 4])
        #expect(moments.count == 3 && abs(moments.mean[0] - 2) < 1e-15 && abs(moments.variances[0] - 8.0 / 3) < 1e-15)
    }

    @Test("merged parts are the whole, wherever the cut", arguments: 0...6)
    func merge(cut: Int) {
        // A large common offset: the naive mean of squares minus square of the mean would lose every digit here.
        let values = [3.0, -1, 4, 1, -5, 9].map { $0 + 1e9 }
        var left = Self.moments(Array(values[..<cut]))
        left.merge(Self.moments(Array(values[cut...])))
        #expect(left.count == 6 && abs(left.mean[0] - 1e9 - 11.0 / 6) < 1e-6)
        #expect(abs(left.centredSquares[0] - (133 - 121.0 / 6)) < 1e-5)
    }

    @Test("a mean weighted by rows, of one value that value, bit for bit")
    func weightedMean() throws {
        #expect(try [Weighted([1.0, 0], rows: 1), Weighted([5.0, 4], rows: 3)].mean() == [4, 3])
        #expect(try [Weighted([0.1, 1e-300], rows: 7)].mean() == [0.1, 1e-300])
    }

    @Test("no values, no rows and unequal lengths are refused", arguments: [
        [], [Weighted([1.0], rows: 0)], [Weighted([1.0], rows: 1), Weighted([1.0, 2], rows: 1)],
    ])
    func refused(values: [Weighted<[Double]>]) {
        #expect { try values.mean() } throws: { ($0 as? AccrueError)?.code == .invalidInput }
    }
}
