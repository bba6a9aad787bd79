import CoreGraphics
import Foundation
import ImageIO
import OnnxRuntimeBindings

enum ClassifierError: LocalizedError {
    case damaged(String)
    case differs(Float)

    var errorDescription: String? {
        switch self {
        case .damaged(let what): return "\(what) is missing or damaged."
        case .differs(let most):
            return "Self-check failed: outputs differ by \(most) from those at export; at most \(Model.tolerance) is allowed."
        }
    }
}

/// The model in ONNX Runtime, on one thread of the CPU. Use it from one thread at a time.
final class Classifier {
    private let environment: ORTEnv
    private let session: ORTSession
    private let labels: [String]

    /// Loads the model and classifies the golden picture.
    ///
    /// Throws `ClassifierError.differs` if the outputs are not those at export.
    init() throws {
        environment = try ORTEnv(loggingLevel: .warning)
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(1)
        session = try ORTSession(env: environment, modelPath: Self.resource(Model.file).path, sessionOptions: options)
        labels = try Self.lines("labels.txt")
        let most = try Self.difference(outputs(Self.golden()), Self.lines("golden.txt").compactMap { Float($0) })
        guard most <= Model.tolerance else { throw ClassifierError.differs(most) }  // fails too if it is not a number
    }

    /// Classes and their probabilities, most likely first; none if the picture shows none of them.
    func classify(_ picture: Picture) throws -> [(label: String, probability: Float)] {
        let found = try outputs(picture)
        if let threshold = Model.knownThreshold, let known = found.known, known < threshold { return [] }
        let top = found.logits.max() ?? 0
        let powers = found.logits.map { exp(($0 - top) / Model.temperature) }
        let sum = powers.reduce(0, +)
        return zip(labels, powers).map { (label: $0, probability: $1 / sum) }.sorted { $0.probability > $1.probability }
    }

    private func outputs(_ picture: Picture) throws -> (logits: [Float], known: Float?) {
        let names: Set<String> = Model.knownThreshold == nil ? [Model.output] : [Model.output, "known"]
        let found = try session.run(withInputs: [Model.input: input(picture)], outputNames: names, runOptions: nil)
        func values(_ name: String) throws -> [Float] {
            guard let data = try found[name]?.tensorData() else { throw ClassifierError.damaged("The output \(name)") }
            return (data as Data).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        }
        return (try values(Model.output), Model.knownThreshold == nil ? nil : try values("known").first)
    }

    private func input(_ picture: Picture) throws -> ORTValue {
        let colours = picture.cover(Model.width, Model.height).ordered(coloursLast: Model.coloursLast)
        let size = [Model.height, Model.width]
        let shape = (Model.coloursLast ? [1] + size + [3] : [1, 3] + size).map { NSNumber(value: $0) }
        if Model.bytes {
            let data = NSMutableData(data: Data(colours))
            return try ORTValue(tensorData: data, elementType: .uInt8, shape: shape)
        }
        let data = colours.map { Float($0) / 255 }.withUnsafeBytes { NSMutableData(data: Data($0)) }
        return try ORTValue(tensorData: data, elementType: .float, shape: shape)
    }

    /// The largest difference of an output; not a number if one is not, and infinite if there are more or fewer.
    private static func difference(_ found: (logits: [Float], known: Float?), _ expected: [Float]) -> Float {
        let all = found.logits + (found.known.map { [$0] } ?? [])
        guard all.count == expected.count else { return .infinity }
        return zip(all, expected).map { abs($0 - $1) }.reduce(Float(0)) { $0.isNaN || $0 >= $1 ? $0 : $1 }
    }

    private static func golden() throws -> Picture {
        guard
            let source = CGImageSourceCreateWithURL(try resource("golden.png") as CFURL, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil),
            let picture = Picture(image)
        else { throw ClassifierError.damaged("golden.png") }
        return picture
    }

    private static func lines(_ name: String) throws -> [String] {
        try String(contentsOf: resource(name), encoding: .utf8).split(separator: "\n").map(String.init)
    }

    private static func resource(_ name: String) throws -> URL {
        guard let url = Bundle.module.url(forResource: name, withExtension: nil, subdirectory: "Resources") else {
            throw ClassifierError.damaged(name)
        }
        return url
    }
}
