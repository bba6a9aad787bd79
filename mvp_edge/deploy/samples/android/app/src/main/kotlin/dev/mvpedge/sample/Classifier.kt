package dev.mvpedge.sample

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.exp

/** A logit for each class; and how surely any of them is shown, if the model has that output. */
class Outputs(val logits: FloatArray, val known: Float?)

/** The model in ONNX Runtime, on one thread of the CPU. Nothing here needs Android. */
class Classifier(model: ByteArray, private val labels: List<String>) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession = OrtSession.SessionOptions().use { options ->
        options.setIntraOpNumThreads(1)
        environment.createSession(model, options)
    }

    /** Classes and their probabilities, most likely first; none if the picture shows none of them. */
    fun classify(picture: Picture): List<Pair<String, Float>> {
        val found = outputs(picture)
        val threshold = Model.KNOWN_THRESHOLD
        if (threshold != null && found.known != null && found.known < threshold) return emptyList()
        val top = found.logits.fold(Float.NEGATIVE_INFINITY, ::maxOf)
        val powers = found.logits.map { exp((it - top) / Model.TEMPERATURE) }
        val sum = powers.sum()
        return labels.zip(powers.map { it / sum }).sortedByDescending { it.second }
    }

    /**
     * The largest difference between the outputs for a picture and expected ones: logits, and `known` if there is one.
     *
     * Not a number if an output is not.
     */
    fun difference(picture: Picture, expected: FloatArray): Float {
        val outputs = outputs(picture)
        val found = outputs.logits + listOfNotNull(outputs.known)
        require(found.size == expected.size) { "${found.size} outputs, but ${expected.size} expected ones" }
        return found.indices.fold(0f) { worst, i -> maxOf(worst, abs(found[i] - expected[i])) }
    }

    private fun outputs(picture: Picture): Outputs = input(picture).use { image ->
        session.run(mapOf(Model.INPUT to image)).use { found ->
            @Suppress("UNCHECKED_CAST")
            val logits = (found.get(Model.OUTPUT).get().value as Array<FloatArray>)[0]
            val known = Model.KNOWN_THRESHOLD?.let { (found.get("known").get().value as FloatArray)[0] }
            Outputs(logits, known)
        }
    }

    private fun input(picture: Picture): OnnxTensor {
        val colours = picture.cover(Model.WIDTH, Model.HEIGHT).ordered(Model.COLOURS_LAST)
        val height = Model.HEIGHT.toLong()
        val width = Model.WIDTH.toLong()
        val shape = if (Model.COLOURS_LAST) longArrayOf(1, height, width, 3) else longArrayOf(1, 3, height, width)
        if (Model.BYTES) {
            val bytes = ByteBuffer.allocateDirect(colours.size)
            bytes.put(colours)
            bytes.rewind()
            return OnnxTensor.createTensor(environment, bytes, shape, OnnxJavaType.UINT8)
        }
        val floats = ByteBuffer.allocateDirect(4 * colours.size).order(ByteOrder.nativeOrder()).asFloatBuffer()
        for (colour in colours) floats.put((colour.toInt() and 255) / 255f)
        floats.rewind()
        return OnnxTensor.createTensor(environment, floats, shape)
    }

    override fun close() = session.close()
}
