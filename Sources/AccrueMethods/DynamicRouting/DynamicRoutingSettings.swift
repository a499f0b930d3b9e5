public import AccrueBayes
public import AccrueCore
import Foundation

extension DynamicRouting {
    /// What a norm's scales and shifts belong to.
    enum Affine: String, CaseIterable, Sendable {
        case unit
        case step
    }

    /// The first steps of the first round, in which units are used in the order of a ResNet, unit t (modulo their number) at step t, and the controller learns
    /// to choose so: routes then depart from a network that works.
    public struct Order: Equatable, Sendable {
        /// Of the round's steps; default 0.
        public var share: Double
        /// What the controller leaves to other choices, all alike; default 0.3.
        public var doubt: Double
    }

    /// What is built.
    public struct Model: Equatable, Sendable {
        public static let keys = ["channels", "units", "steps", "skip", "affine", "controller", "embedding", "hidden", "shared"]
        /// Of each stage; default [16, 32, 64]. Each stage but the first halves height and width.
        public var channels: [Int]
        /// M, units of each stage's set; default 6, then 5.
        public var units: [Int]
        /// T, steps of each stage; default as many as units.
        public var steps: [Int]
        /// Whether a step may also choose to do nothing; default false.
        public var skip: Bool
        /// Whether a unit has one scale and shift of a norm (`unit`, the default) or one for each step at which it may be used (`step`).
        var affine: Affine
        /// `controller`: lstm (default) or gru; `embedding` and `hidden`, its widths, default 10; `shared`: one for all stages (default true).
        var controller: RouteController

        init(_ settings: SettingsReader) throws(AccrueError) {
            let model = try settings.section("model", known: Self.keys)
            channels = try model.wholes("channels", default: [16, 32, 64], in: 1...4_096)
            units = try model.wholes("units", default: channels.indices.map { $0 == 0 ? 6 : 5 }, in: 1...64)
            steps = try model.wholes("steps", default: units, in: 1...64)
            skip = try model.flag("skip", default: false)
            affine = try model.choice("affine", default: .unit)
            controller = RouteController(
                kind: try model.choice("controller", default: .lstm), embedding: try model.whole("embedding", default: 10, in: 1...1_024),
                hidden: try model.whole("hidden", default: 10, in: 1...1_024), shared: try model.flag("shared", default: true))
            guard (1...8).contains(channels.count) else { throw model.refuse("channels", "has \(channels.count) numbers; there are 1 to 8 stages") }
            for (key, list) in [("units", units), ("steps", steps)] where list.count != channels.count {
                throw model.refuse(key, "has \(list.count) numbers; channels has \(channels.count): each stage needs one", hint: "give \(channels.count) numbers")
            }
            if let bad = zip(channels, channels.dropFirst()).first(where: { $0 > $1 }) {
                throw model.refuse("channels", "falls from \(bad.0) to \(bad.1); a stage needs at least as many as the one before it")
            }
        }
    }

    /// How units are chosen in training.
    public enum Routes: String, CaseIterable, Sendable {
        /// All units, mixed by a softmax (the default).
        case soft
        /// The same with Gumbel noise.
        case gumbel
        /// One unit, with the softmax's gradient; with Gumbel noise.
        case straightThrough
        /// The `topK` likeliest units, mixed by a softmax.
        case topK
        /// Unit t at step t: the ResNet of the same blocks, without a controller.
        case fixed
    }

    /// How a prediction goes about routes.
    public enum Evaluation: String, CaseIterable, Sendable {
        /// The likeliest unit of each step, and nothing else is computed.
        case hard
        /// All units, mixed as in training without noise.
        case soft
        /// The likeliest unit of each step, though all are computed: for measuring what `hard` saves.
        case masked
        /// One unit of each step, drawn by its probability: each draw anew.
        case gumbel
    }

    /// T of the softmax in the first round: `from` for the first `warmUp` of its steps (behind those of `order`), then falling exponentially to `to` where the last `hard` of them
    /// begin; later rounds begin where it ended.
    public struct Temperature: Equatable, Sendable {
        /// Default 5.
        public var from: Double
        /// Default 0.5.
        public var to: Double
        /// Share of the steps in which routes are soft whatever `routes` says; default 0.1.
        public var warmUp: Double
        /// Share of every round's steps, the last, in which one unit is chosen without noise and with the softmax's gradient, so that what is trained is what
        /// is served; default 0.1. Not with `evaluation: soft`.
        public var hard: Double

        /// At a step of a round.
        func at(_ step: Int, of steps: Int, after order: Order, isFirst: Bool) -> Double {
            guard isFirst else { return to }
            let start = (order.share + warmUp) * Double(steps), end = (1 - hard) * Double(steps)
            let share = end > start ? min(1, max(0, (Double(step) - start) / (end - start))) : 1
            return from * Foundation.pow(to / from, share)
        }
    }

    /// The `settings` of a pipeline file. The numbers that the paper used were not to be found: defaults are those of the nearest public code (SkipNet's) or
    /// this project's.
    public struct Settings: Sendable {
        public static let keys = [
            "model", "likelihood", "routes", "topK", "order", "temperature", "penalties", "evaluation", "epochs", "batch", "learningRate", "warmUp", "finalRate", "averageTail",
            "weightDecay", "augment",
        ]
        public var model: Model
        public var likelihood: Likelihood
        public var routes: Routes
        /// k of `routes: topK`; default 2.
        public var topK: Int
        public var order: Order
        public var temperature: Temperature
        /// `penalties`: `balance` (default 0.01), `entropy` and `cost` (default 0), nats. Negative entropy: exploration.
        var penalties: RoutePenalties
        /// How rows are scored and predicted where a question does not say; default hard, with `routes: topK` soft.
        public var evaluation: Evaluation
        /// Passes over a round's rows; default 15.
        public var epochs: Int
        /// Rows of a step on one shard, whose batch statistics are taken together; default 128, at least 2.
        public var batch: Int
        /// Adam's largest rate in a round; default 0.01.
        public var learningRate: Double
        /// Share of a round's steps in which the rate rises from 0 to it; default 0.1.
        public var warmUp: Double
        /// Share of the rate that is left at a round's last step, to which it falls in a straight line; default 0.01.
        public var finalRate: Double
        /// Share of a round's steps, its last, whose weights are averaged; default 0.05.
        public var averageTail: Double
        /// Added to the gradient of convolutions and dense layers, times the weight; default 0.0001.
        public var weightDecay: Double
        /// `augment`: `pad` positions of border in which pictures are shifted, `flip` for mirrored ones; default none (4 and true are usual for 32×32
        /// photographs).
        public var augment: PictureAugmentation

        /// - Throws: `invalidInput` for unknown keys, values out of range, or choices that do not go together.
        public init(_ value: JSONValue, schema: Schema) throws(AccrueError) {
            let settings = try SettingsReader(value, known: Self.keys, while: "reading the settings of \(DynamicRouting.name)")
            model = try Model(settings)
            likelihood = try Likelihood(settings, schema: schema)
            routes = try settings.choice("routes", default: .soft)
            topK = try settings.whole("topK", default: 2, in: 1...64)
            let first = try settings.section("order", known: ["share", "doubt"])
            order = Order(share: try first.number("share", default: 0, in: 0...1), doubt: try first.number("doubt", default: 0.3, in: 0...1))
            let heat = try settings.section("temperature", known: ["from", "to", "warmUp", "hard"])
            temperature = Temperature(
                from: try heat.number("from", default: 5, in: 1e-3...1e3), to: try heat.number("to", default: 0.5, in: 1e-3...1e3),
                warmUp: try heat.number("warmUp", default: 0.1, in: 0...1), hard: try heat.number("hard", default: 0.1, in: 0...1))
            let terms = try settings.section("penalties", known: ["balance", "balanced", "entropy", "cost"])
            penalties = RoutePenalties(
                balance: try terms.number("balance", default: 0.01, in: 0...1e3), balanced: try terms.choice("balanced", default: .stage),
                entropy: try terms.number("entropy", default: 0, in: -1e3...1e3), cost: try terms.number("cost", default: 0, in: 0...1e3))
            evaluation = try settings.choice("evaluation", default: routes == .topK ? .soft : .hard)
            epochs = try settings.whole("epochs", default: 15, in: 1...100_000)
            batch = try settings.whole("batch", default: 128, in: 2...1_000_000)
            learningRate = try settings.number("learningRate", default: 0.01, in: 1e-9...10)
            warmUp = try settings.number("warmUp", default: 0.1, in: 0...1)
            finalRate = try settings.number("finalRate", default: 0.01, in: 0...1)
            averageTail = try settings.number("averageTail", default: 0.05, in: 0...1)
            weightDecay = try settings.number("weightDecay", default: 0.0001, in: 0...1)
            augment = try PictureAugmentation(settings)
            try check(settings, heat, terms)
        }

        /// Settings that do nothing, or do not go together, are refused.
        private func check(_ settings: SettingsReader, _ heat: SettingsReader, _ terms: SettingsReader) throws(AccrueError) {
            guard case .softmax = likelihood else {
                throw settings.refuse("likelihood", "is not softmax; routes are for classes", hint: "list the class names in the schema's target, and leave likelihood out")
            }
            if settings.has("topK"), routes != .topK { throw settings.refuse("topK", "belongs to routes topK, not to \(routes.rawValue)", hint: "leave it out, or set routes: topK") }
            if routes == .topK, let few = model.units.min(), topK > few { throw settings.refuse("topK", "is \(topK); a stage has \(few) units", hint: "give a number from 1 to \(few)") }
            if routes == .fixed {
                for key in ["order", "temperature", "penalties", "evaluation"] where settings.has(key) {
                    throw settings.refuse(key, "belongs to routes that are learned, not to fixed ones", hint: "leave it out")
                }
                if model.affine == .step { throw settings.refuse("model.affine", "is step; fixed routes use a unit at one step alone", hint: "leave it out") }
                if model.skip { throw settings.refuse("model.skip", "is true; fixed routes skip nothing", hint: "leave it out") }
                for (units, steps) in zip(model.units, model.steps) where units != steps {
                    throw settings.refuse("model.steps", "has \(steps) where there are \(units) units; with fixed routes unit t is used at step t", hint: "give as many steps as units")
                }
            } else if !model.skip, model.units.allSatisfy({ $0 == 1 }) {
                throw settings.refuse("model.units", "is \(model.units): there is nothing to choose from", hint: "give more units, or use routes: fixed")
            }
            if evaluation == .masked { throw settings.refuse("evaluation", "is masked, which is for measuring", hint: "choose hard, soft or gumbel, and ask for masked in a question") }
            if temperature.to > temperature.from { throw heat.refuse("to", "is \(temperature.to), above from, \(temperature.from)", hint: "give a number from 0.001 to \(temperature.from)") }
            if order.share + temperature.warmUp + temperature.hard > 1 {
                throw heat.refuse("hard", "is \(temperature.hard), warmUp \(temperature.warmUp) and order.share \(order.share): more than all steps", hint: "lower one of them")
            }
            if terms.has("cost"), !model.skip { throw terms.refuse("cost", "counts steps that do not skip; model.skip is not true", hint: "add skip: true to settings.model, or leave it out") }
        }
    }
}
