// Runs what the sample project does without Android: WORDS... on the command line, one answer on a line.
//
//     ordered PIXELS WIDTH HEIGHT DEGREES OUT_WIDTH OUT_HEIGHT OUT   the scaled picture's bytes, colours last, to a file
//     difference PIXELS WIDTH HEIGHT GOLDEN.txt                      what the self-check compares with its tolerance
//     classify PIXELS WIDTH HEIGHT LABELS.txt                        classes and probabilities

import dev.mvpedge.sample.Classifier
import dev.mvpedge.sample.Picture
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

private fun picture(file: String, width: String, height: String, degrees: String = "0"): Picture {
    val numbers = ByteBuffer.wrap(File(file).readBytes()).order(ByteOrder.LITTLE_ENDIAN).asIntBuffer()
    val pixels = IntArray(numbers.remaining()).also { numbers.get(it) }
    return Picture.of(pixels, width.toInt(), height.toInt(), degrees.toInt())
}

fun main() = generateSequence(::readlnOrNull).map { it.split(" ") }.forEach { words ->
    when (words[0]) {
        "ordered" -> {
            val small = picture(words[1], words[2], words[3], words[4]).cover(words[5].toInt(), words[6].toInt())
            File(words[7]).writeBytes(small.ordered(true))
            println("${small.width} ${small.height}")
        }
        "difference" -> {
            val expected = File(words[4]).readLines().map { it.toFloat() }.toFloatArray()
            println(Classifier(ByteArray(0), emptyList()).difference(picture(words[1], words[2], words[3]), expected))
        }
        "classify" -> {
            val labels = File(words[4]).readLines()
            println(Classifier(ByteArray(0), labels).classify(picture(words[1], words[2], words[3])))
        }
    }
}
