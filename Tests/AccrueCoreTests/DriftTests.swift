import AccrueCore
import Testing

@Suite("Drift statistic")
struct DriftTests {
    /// The score of a part whose rows' log densities have this mean and standard deviation.
    private func part(mean: Double, deviation: Double = 1, rows: Int = 1_000) -> Score {
        var score = Score()
        score.rows = rows
        score.logDensity = mean * Double(rows)
        score.logDensitySquared = (mean * mean + deviation * deviation) * Double(rows)
        return score
    }

    /// The places of the parts that raise an alarm.
    private func alarms(_ parts: [Score]) -> (places: [Int], last: DriftStatistic) {
        var drift = DriftStatistic(), places: [Int] = []
        for (place, part) in parts.enumerated() {
            let isAlarm = drift.observe(part, zThreshold: 4, pageHinkleyThreshold: 1)
            if isAlarm { places.append(place) }
        }
        return (places, drift)
    }

    /// Numbers with mean 0 and variance 1, near enough to normal: sums of twelve uniform ones.
    private func noise(_ count: Int, seed: UInt64) -> [Double] {
        let key = RandomKey(seed: seed)
        return (0..<count).map { i in (0..<12).reduce(-6) { $0 + Double(key.folding(i).folding($1).low >> 11) * 0x1p-53 } }
    }

    @Test("parts that are alike raise no alarm: 400 streams of 50 parts, of which one in four thousand parts may reach z = 4 by chance")
    func stationary() {
        var found = 0
        for seed in 0..<400 as Range<UInt64> { found += alarms(noise(50, seed: seed).map { part(mean: -0.4 + $0 / 1_000.0.squareRoot()) }).places.count }
        #expect(found <= 5)
    }

    @Test("a part worse by a fifth of a standard deviation is found at once, with the z-score that the formula gives, and only once")
    func sudden() {
        let before = [Score](repeating: part(mean: -0.4), count: 10)
        let (places, last) = alarms(before + [part(mean: -0.6)])
        #expect(places == [10])
        #expect(abs(last.zScore - 0.2 / (1 / 1_000.0 + 1 / 10_000.0).squareRoot()) < 1e-9)
        #expect(alarms(before + [part(mean: -0.6), part(mean: -0.6), part(mean: -0.6)]).places == [10])
    }

    @Test("a slow decline, each step of it within noise, adds up until Page and Hinkley's test finds it")
    func slow() {
        let places = alarms((0..<60).map { part(mean: -0.4 - 0.03 * Double($0), rows: 50) }).places
        #expect(places.first.map { (3...25).contains($0) } ?? false)
    }

    @Test("a learning curve that rises raises no alarm, and a fall back from where it has come does")
    func rising() {
        let rise = (0..<10).map { part(mean: -2 + 0.18 * Double($0)) }
        #expect(alarms(rise).places.isEmpty)
        #expect(alarms(rise + [part(mean: -0.8)]).places == [10])
    }
}
