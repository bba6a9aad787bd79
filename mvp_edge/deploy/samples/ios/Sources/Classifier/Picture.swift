import CoreGraphics
import CoreVideo

/// An opaque, upright picture: red, green and blue as bytes, row after row.
struct Picture {
    let width: Int
    let height: Int
    var rgb: [UInt8]

    /// The largest centred rectangle of the model's aspect ratio, scaled to its size as Pillow does it in the evaluation.
    func cover(_ outWidth: Int, _ outHeight: Int) -> Picture {
        if width == outWidth && height == outHeight { return self }
        let scale = max(Double(outWidth) / Double(width), Double(outHeight) / Double(height))
        let boxWidth = min(Double(outWidth) / scale, Double(width))
        let boxHeight = min(Double(outHeight) / scale, Double(height))
        let left = (Double(width) - boxWidth) / 2
        let top = (Double(height) - boxHeight) / 2
        let scaleX = boxWidth / Double(outWidth)
        let scaleY = boxHeight / Double(outHeight)
        let factorX = max(1, Int(scaleX / 3))
        let factorY = max(1, Int(scaleY / 3))
        var image = self
        var (x0, y0) = (0, 0)
        if factorX > 1 || factorY > 1 {
            x0 = max(0, Int(left - scaleX / 2))
            y0 = max(0, Int(top - scaleY / 2))
            let x1 = min(width, Int((left + boxWidth + scaleX / 2).rounded(.up)))
            let y1 = min(height, Int((top + boxHeight + scaleY / 2).rounded(.up)))
            image = reduced(factorX, factorY, x0..<x1, y0..<y1)
        }
        func place(_ edge: Double, _ start: Int, _ factor: Int) -> Float { Float((edge - Double(start)) / Double(factor)) }
        let columns = Self.windows(
            image.width, place(left, x0, factorX), place(left + boxWidth, x0, factorX), outWidth)
        let rows = Self.windows(
            image.height, place(top, y0, factorY), place(top + boxHeight, y0, factorY), outHeight)
        return image.filtered(columns, rows)
    }

    /// Means of whole blocks within a rectangle; the last blocks may be smaller.
    private func reduced(_ factorX: Int, _ factorY: Int, _ across: Range<Int>, _ down: Range<Int>) -> Picture {
        var small = Picture(
            width: (across.count + factorX - 1) / factorX, height: (down.count + factorY - 1) / factorY)
        for y in 0..<small.height {
            for x in 0..<small.width {
                let top = down.lowerBound + y * factorY
                let left = across.lowerBound + x * factorX
                let bottom = min(top + factorY, down.upperBound)
                let right = min(left + factorX, across.upperBound)
                let count = (bottom - top) * (right - left)
                let multiplier = (1 << 24) / count
                for colour in 0..<3 {
                    var sum = count >> 1
                    for v in top..<bottom {
                        for u in left..<right { sum += level(v * width + u, colour) }
                    }
                    small.put(y * small.width + x, colour, (sum * multiplier) >> 24)
                }
            }
        }
        return small
    }

    /// Rows first, then columns; both passes round to bytes.
    private func filtered(_ columns: [Window], _ rows: [Window]) -> Picture {
        var wide = Picture(width: columns.count, height: height)
        for y in 0..<height {
            for (x, window) in columns.enumerated() {
                for colour in 0..<3 {
                    wide.put(y * wide.width + x, colour, window.sum { level(y * width + $0, colour) })
                }
            }
        }
        var small = Picture(width: columns.count, height: rows.count)
        for (y, window) in rows.enumerated() {
            for x in 0..<small.width {
                for colour in 0..<3 {
                    small.put(y * small.width + x, colour, window.sum { wide.level($0 * wide.width + x, colour) })
                }
            }
        }
        return small
    }

    /// The colours in the order of the model's axes.
    func ordered(coloursLast: Bool) -> [UInt8] {
        if coloursLast { return rgb }
        let count = width * height
        return (0..<3 * count).map { rgb[3 * ($0 % count) + $0 / count] }
    }

    private func level(_ pixel: Int, _ colour: Int) -> Int { Int(rgb[3 * pixel + colour]) }

    private mutating func put(_ pixel: Int, _ colour: Int, _ value: Int) {
        rgb[3 * pixel + colour] = UInt8(min(255, max(0, value)))
    }

    /// The pixels that one output pixel is made of, and their weights in 22 bits.
    private struct Window {
        let first: Int
        let weights: [Int]

        func sum(_ level: (Int) -> Int) -> Int {
            var total = 1 << 21
            for (i, weight) in weights.enumerated() { total += weight * level(first + i) }
            return total >> 22
        }
    }

    /// A triangle as wide as the scale factor around each output pixel.
    private static func windows(_ size: Int, _ from: Float, _ to: Float, _ outSize: Int) -> [Window] {
        let scale = Double(to - from) / Double(outSize)
        let support = max(scale, 1)
        return (0..<outSize).map { out in
            let centre = Double(from) + (Double(out) + 0.5) * scale
            let first = max(0, Int(centre - support + 0.5))
            let last = min(size, Int(centre + support + 0.5))
            let raw = (first..<last).map { max(0, 1 - abs((Double($0) - centre + 0.5) / support)) }
            let sum = raw.reduce(0, +)
            return Window(first: first, weights: raw.map { Int(0.5 + $0 / sum * Double(1 << 22)) })
        }
    }

    private init(width: Int, height: Int) {
        self.init(width: width, height: height, rgb: [UInt8](repeating: 0, count: 3 * width * height))
    }

    init(width: Int, height: Int, rgb: [UInt8]) {
        self.width = width
        self.height = height
        self.rgb = rgb
    }

    /// A decoded picture, on white where it is transparent. Its own colour space is kept, as in the evaluation.
    init?(_ image: CGImage) {
        var pixels = [UInt8](repeating: 255, count: 4 * image.width * image.height)
        let own = image.colorSpace.flatMap { $0.model == .rgb ? $0 : nil }
        let drawn = pixels.withUnsafeMutableBytes { buffer -> Bool in
            guard
                let canvas = CGContext(
                    data: buffer.baseAddress, width: image.width, height: image.height, bitsPerComponent: 8,
                    bytesPerRow: 4 * image.width, space: own ?? CGColorSpaceCreateDeviceRGB(),
                    bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            canvas.draw(image, in: CGRect(x: 0, y: 0, width: image.width, height: image.height))
            return true
        }
        guard drawn else { return nil }
        self.init(width: image.width, height: image.height)
        for i in 0..<width * height {
            for colour in 0..<3 { rgb[3 * i + colour] = pixels[4 * i + colour] }
        }
    }

    /// A camera's frame in 32BGRA.
    init?(_ frame: CVPixelBuffer) {
        CVPixelBufferLockBaseAddress(frame, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(frame, .readOnly) }
        guard let base = CVPixelBufferGetBaseAddress(frame) else { return nil }
        self.init(width: CVPixelBufferGetWidth(frame), height: CVPixelBufferGetHeight(frame))
        let stride = CVPixelBufferGetBytesPerRow(frame)
        for y in 0..<height {
            let row = base.advanced(by: y * stride).assumingMemoryBound(to: UInt8.self)
            for x in 0..<width {
                for colour in 0..<3 { rgb[3 * (y * width + x) + colour] = row[4 * x + 2 - colour] }
            }
        }
    }
}
