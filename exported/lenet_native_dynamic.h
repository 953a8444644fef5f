/* lenet_native_dynamic.c, sha256 c92add8811bdaf00c77b5fd36998d82d6790825204529dc0498ec08df002e84d. Made by lenet-edge; do not edit.
 *
 * Images are 28 x 28 x 1: height, width, channels. The largest logit is the class.
 * A pixel p of 0 to 255 goes in as p * 0.00392156863.
 */
#ifndef LENET_H
#define LENET_H

#include <stddef.h>

#define LENET_NUM_CLASSES 10
#define LENET_LABELS {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}

#ifdef __cplusplus
extern "C" {
#endif
void lenet(const float image[784], float logits[10]);
void lenet_batch(const float *images, float *logits, size_t count);
#ifdef __cplusplus
}
#endif

#endif
