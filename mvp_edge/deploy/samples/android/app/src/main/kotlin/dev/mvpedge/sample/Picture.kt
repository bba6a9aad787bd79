package dev.mvpedge.sample

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min

/**
 * An opaque, upright picture: red, green and blue as bytes, row after row.
 *
 * Nothing here needs Android.
 */
class Picture(val width: Int, val height: Int, val rgb: ByteArray) {
    /** The largest centred rectangle of the model's aspect ratio, scaled to its size as Pillow does it in the evaluation. */
    fun cover(outWidth: Int, outHeight: Int): Picture {
        if (width == outWidth && height == outHeight) return this
        val scale = max(outWidth.toDouble() / width, outHeight.toDouble() / height)
        val boxWidth = min(outWidth / scale, width.toDouble())
        val boxHeight = min(outHeight / scale, height.toDouble())
        return crop((width - boxWidth) / 2, (height - boxHeight) / 2, boxWidth, boxHeight, outWidth, outHeight)
    }

    private fun crop(
        left: Double, top: Double, boxWidth: Double, boxHeight: Double, outWidth: Int, outHeight: Int,
    ): Picture {
        val scaleX = boxWidth / outWidth
        val scaleY = boxHeight / outHeight
        val factorX = max(1, (scaleX / 3).toInt())
        val factorY = max(1, (scaleY / 3).toInt())
        if (factorX == 1 && factorY == 1) {
            val columns = windows(width, left.toFloat(), (left + boxWidth).toFloat(), outWidth)
            return filtered(columns, windows(height, top.toFloat(), (top + boxHeight).toFloat(), outHeight))
        }
        val x0 = max(0, (left - scaleX / 2).toInt())
        val y0 = max(0, (top - scaleY / 2).toInt())
        val x1 = min(width, ceil(left + boxWidth + scaleX / 2).toInt())
        val y1 = min(height, ceil(top + boxHeight + scaleY / 2).toInt())
        val small = reduced(factorX, factorY, x0, y0, x1, y1)
        val columns = windows(
            small.width, ((left - x0) / factorX).toFloat(), ((left + boxWidth - x0) / factorX).toFloat(), outWidth,
        )
        val rows = windows(
            small.height, ((top - y0) / factorY).toFloat(), ((top + boxHeight - y0) / factorY).toFloat(), outHeight,
        )
        return small.filtered(columns, rows)
    }

    /** Means of whole blocks within a rectangle; the last blocks may be smaller. */
    private fun reduced(factorX: Int, factorY: Int, left: Int, top: Int, right: Int, bottom: Int): Picture {
        val small = blank((right - left + factorX - 1) / factorX, (bottom - top + factorY - 1) / factorY)
        for (y in 0 until small.height) for (x in 0 until small.width) {
            val rows = top + y * factorY until min(top + (y + 1) * factorY, bottom)
            val columns = left + x * factorX until min(left + (x + 1) * factorX, right)
            val count = (rows.last - rows.first + 1) * (columns.last - columns.first + 1)
            val multiplier = (1L shl 24) / count
            for (colour in 0..2) {
                var sum = (count shr 1).toLong()
                for (v in rows) for (u in columns) sum += level(v * width + u, colour)
                small.rgb[3 * (y * small.width + x) + colour] = (sum * multiplier shr 24).toByte()
            }
        }
        return small
    }

    /** Rows first, then columns; both passes round to bytes. */
    private fun filtered(columns: List<Window>, rows: List<Window>): Picture {
        val wide = blank(columns.size, height)
        for (y in 0 until height) for (x in columns.indices) {
            for (colour in 0..2) wide.put(y * wide.width + x, colour, columns[x].sum { level(y * width + it, colour) })
        }
        val small = blank(columns.size, rows.size)
        for (y in rows.indices) for (x in columns.indices) {
            for (colour in 0..2) {
                small.put(y * small.width + x, colour, rows[y].sum { wide.level(it * wide.width + x, colour) })
            }
        }
        return small
    }

    /** The colours in the order of the model's axes. */
    fun ordered(coloursLast: Boolean): ByteArray {
        if (coloursLast) return rgb
        val count = width * height
        return ByteArray(3 * count) { rgb[3 * (it % count) + it / count] }
    }

    private fun level(pixel: Int, colour: Int): Int = rgb[3 * pixel + colour].toInt() and 255

    private fun put(pixel: Int, colour: Int, value: Int) {
        rgb[3 * pixel + colour] = value.coerceIn(0, 255).toByte()
    }

    /** The pixels that one output pixel is made of, and their weights in 22 bits. */
    private class Window(val first: Int, val weights: IntArray) {
        inline fun sum(level: (Int) -> Int): Int {
            var total = 1 shl 21
            for (i in weights.indices) total += weights[i] * level(first + i)
            return total shr 22
        }
    }

    companion object {
        /**
         * The picture of `0xAARRGGBB` numbers, as `Bitmap.getPixels` gives them: on white where it is transparent, and turned
         * clockwise by 0, 90, 180 or 270 degrees.
         */
        fun of(argb: IntArray, width: Int, height: Int, degrees: Int): Picture {
            require(degrees in setOf(0, 90, 180, 270)) { "a picture cannot be turned by $degrees degrees" }
            val made = if (degrees % 180 == 0) blank(width, height) else blank(height, width)
            for (y in 0 until height) for (x in 0 until width) {
                val place = when (degrees) {
                    0 -> y * width + x
                    90 -> x * height + height - 1 - y
                    180 -> (height - 1 - y) * width + width - 1 - x
                    else -> (width - 1 - x) * height + y
                }
                val pixel = argb[y * width + x]
                val alpha = pixel ushr 24
                for (colour in 0..2) {
                    val mixed = (pixel shr (16 - 8 * colour) and 255) * alpha + 255 * (255 - alpha) + 128
                    made.put(place, colour, (mixed shr 8) + mixed shr 8)
                }
            }
            return made
        }

        private fun blank(width: Int, height: Int) = Picture(width, height, ByteArray(3 * width * height))

        /** A triangle as wide as the scale factor around each output pixel. */
        private fun windows(size: Int, from: Float, to: Float, outSize: Int): List<Window> {
            val scale = (to - from).toDouble() / outSize
            val support = max(scale, 1.0)
            return List(outSize) { out ->
                val centre = from + (out + 0.5) * scale
                val first = max(0, (centre - support + 0.5).toInt())
                val last = min(size, (centre + support + 0.5).toInt())
                val raw = DoubleArray(last - first) { max(0.0, 1 - abs((first + it - centre + 0.5) / support)) }
                val sum = raw.sum()
                Window(first, IntArray(raw.size) { (0.5 + raw[it] / sum * (1 shl 22)).toInt() })
            }
        }
    }
}
