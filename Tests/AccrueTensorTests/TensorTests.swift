import AccrueCore
import AccrueTensor
import Testing

@Suite struct TensorTests {
    @Test("bytes go in and come out unchanged, for every element type")
    func roundTrip() throws {
        for tensor in [
            TensorBytes([1.5, -2, 3e300, 0], shape: [2, 2]), TensorBytes([Float(0.1), 7], shape: [2]), TensorBytes([Int64.min, 5], shape: [2, 1]),
            TensorBytes([UInt8(0), 255, 3], shape: [3]), TensorBytes([Double](), shape: [0, 4]),
        ] {
            #expect(try Tensor(tensor).bytes() == tensor)
        }
    }

    @Test("an operation on shapes that do not fit is refused, naming both shapes")
    func shapes() throws {
        let a = try Tensor.ones([2, 3]), b = try Tensor.ones([4, 5])
        let error = #expect(throws: AccrueError.self) { try a.matmul(b) }
        #expect(error?.code == .invalidInput)
        #expect(error?.operation == "computing a matrix product of F32 [2, 3], F32 [4, 5]")
        #expect(error?.problem.contains("\n") == false)
    }

    @Test("reading one number of several is refused")
    func item() throws {
        #expect(throws: AccrueError.self) { try Tensor.ones([2]).item() }
        #expect(try Tensor.scalar(2.5).item() == 2.5)
    }

    @Test("values that are not finite are found")
    func finite() throws {
        #expect(try Tensor([1, .infinity] as [Float], shape: [2]).isFinite() == false)
        #expect(try Tensor([1, .nan] as [Float], shape: [2]).isFinite() == false)
        #expect(try Tensor([1, 2] as [Float], shape: [2]).isFinite())
    }

    @Test("a dense layer of one row is that row of many")
    func oneRow() throws {
        let key = RandomKey(seed: 4)
        let x = try key.folding(1).normal([3, 7]), w = try key.folding(2).normal([5, 7]), b = try key.folding(3).normal([5])
        for bias in [b, nil] {
            let many = try x.linear(w, bias), one = try x.rows(1..<2).linear(w, bias)
            #expect(one.shape == [1, 5])
            #expect(try (one - (try many.rows(1..<2))).absolute().largest().item() < 1e-6)
        }
        #expect(throws: AccrueError.self) { try x.rows(0..<1).linear(try key.normal([5, 6]), nil) }
    }

    @Test("patches times weights are the convolution")
    func unfold() throws {
        let key = RandomKey(seed: 3)
        let x = try key.folding(1).normal([2, 3, 7, 6], dtype: .f64), w = try key.folding(2).normal([4, 3, 3, 3], dtype: .f64)
        let direct = try x.convolved(w, nil, padding: 1)
        let patches = try x.unfolded(3, padding: 1)
        let product = try w.reshaped([4, -1]).matmul(patches).reshaped([2, 4, 7, 6])
        #expect(try (direct - product).absolute().largest().item() < 1e-12)
    }

    @Test("batch normalisation with the batch's own statistics gives mean 0 and biased variance 1")
    func batchNorm() throws {
        let x = try RandomKey(seed: 1).normal([8, 2, 3, 3], dtype: .f64) * 3 + 5
        let y = try x.batchNormalised(scale: try .ones([2], dtype: .f64), shift: try .zeros([2], dtype: .f64), epsilon: 0)
        #expect(try y.mean(0, 2, 3).absolute().largest().item() < 1e-12)
        #expect(try (y.squared().mean(0, 2, 3) - 1).absolute().largest().item() < 1e-12)
    }
}
