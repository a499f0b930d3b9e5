import Testing

@testable import AccrueWorker

@Suite("How much is taken at a time", .timeLimit(.minutes(10)))
struct AdmissionTests {
    @Test("requests and bytes are bounded, but one is always taken")
    func bounds() {
        let admission = Admission(countMax: 2, bytesMax: 100)
        #expect(admission.enter(bytes: 1_000))
        #expect(!admission.enter(bytes: 1))
        admission.leave(bytes: 1_000)
        #expect(admission.enter(bytes: 50) && admission.enter(bytes: 50))
        #expect(!admission.enter(bytes: 0))
        admission.leave(bytes: 50)
        admission.grow(by: 50)
        #expect(!admission.enter(bytes: 1))
        admission.leave(bytes: 100)
        #expect(admission.enter(bytes: 100))
    }

    @Test("after closing nothing is taken, and closing waits for what was")
    func closing() async {
        let admission = Admission(countMax: 2, bytesMax: 100)
        #expect(admission.enter(bytes: 1))
        async let closed: Void = admission.close(patienceMs: 60_000)
        while admission.enter(bytes: 0) {
            admission.leave(bytes: 0)
            await Task.yield()
        }
        admission.leave(bytes: 1)
        await closed
        #expect(!admission.enter(bytes: 1))
    }

    @Test("closing does not wait for ever")
    func patience() async {
        let admission = Admission(countMax: 2, bytesMax: 100)
        #expect(admission.enter(bytes: 1))
        await admission.close(patienceMs: 10)
    }
}
