/* A TFLite external delegate for tests. It computes float convolutions, max-pools, reshapes and fully
   connected layers, all without padding, and takes what its options say:
     claim=none|dense|all   which nodes it takes; dense if left out
     bias=X                 add X to each second value of the last layer: it runs, and is wrong
     slow=N                 waste time in each fully connected layer of N outputs
     fail=create            find no device
     fail=graph             refuse any graph whose batch is free
   The parts of TFLite's C ABI that it needs are declared here: tensorflow/lite/core/c/common.h,
   builtin_op_data.h and tensorflow/lite/delegates/external/external_delegate.cc. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FLOAT32 = 1, CONV_2D = 3, FULLY_CONNECTED = 9, MAX_POOL_2D = 17, RESHAPE = 22, RELU = 1 };

typedef struct { int size; int data[]; } Ints;
typedef struct {
  int type; void *data; Ints *dims; float scale; int32_t zero_point; int allocation_type; size_t bytes;
  const void *allocation; const char *name; void *delegate; int buffer_handle; _Bool stale, variable;
  int quantization_type; void *quantization; void *sparsity; const Ints *signature;
} Tensor;
typedef struct {
  Ints *inputs, *outputs, *intermediates, *temporaries; void *user_data, *builtin_data;
  const void *custom_data; int custom_size; void *delegate; _Bool side_effect;
} Node;
typedef struct Context Context;
typedef struct {
  void *(*init)(Context *, const char *, size_t); void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *); int (*invoke)(Context *, Node *);
  const char *(*profile)(const Context *, const Node *);
  int32_t builtin_code; const char *custom_name; int version; void *external, *async; uint64_t inplace;
} Kernel;
typedef struct Delegate Delegate;
struct Context {
  size_t tensor_count; int (*plan)(Context *, Ints **); Tensor *tensors; void *implementation;
  int (*resize)(Context *, Tensor *, Ints *); void (*error)(Context *, const char *, ...);
  int (*add)(Context *, int, int *); int (*node)(Context *, int, Node **, Kernel **);
  int (*replace)(Context *, Kernel, const Ints *, Delegate *);
};
struct Delegate { void *data; int (*prepare)(Context *, Delegate *); void *a, *b, *c; int64_t flags; void *opaque; };
typedef struct { Delegate *delegate; Ints *nodes, *inputs, *outputs; } Partition;
typedef struct { int padding, stride_width, stride_height, activation; } ConvParams;
typedef struct { int padding, stride_width, stride_height, filter_width, filter_height, activation; } PoolParams;

typedef struct { int claim_dense, claim_all, refuse_free, slow; float bias; } Options;
typedef struct { int kind, x, w, b, y, last; ConvParams conv; PoolParams pool; int activation; } Step;
typedef struct { int count, slow; float bias; float **own; size_t tensors; Step steps[]; } Program;

static int size_of(const Tensor *tensor) {
  int size = 1;
  for (int i = 0; i < tensor->dims->size; i++) size *= tensor->dims->data[i];
  return size;
}

static void *init(Context *context, const char *buffer, size_t length) {
  (void)length;
  const Partition *partition = (const Partition *)buffer;
  const Options *options = partition->delegate->data;
  Program *program = calloc(1, sizeof *program + sizeof(Step) * partition->nodes->size);
  program->bias = options->bias;
  program->slow = options->slow;
  program->tensors = context->tensor_count;
  program->own = calloc(context->tensor_count, sizeof *program->own);
  for (int i = 0; i < partition->nodes->size; i++) {
    Node *node; Kernel *kernel;
    Step *step = &program->steps[program->count++];
    if (context->node(context, partition->nodes->data[i], &node, &kernel)) return program;
    step->kind = kernel->builtin_code;
    step->x = node->inputs->data[0];
    step->w = node->inputs->size > 1 ? node->inputs->data[1] : -1;
    step->b = node->inputs->size > 2 ? node->inputs->data[2] : -1;
    step->y = node->outputs->data[0];
    step->last = i == partition->nodes->size - 1;
    if (step->kind == CONV_2D) step->conv = *(ConvParams *)node->builtin_data;
    if (step->kind == MAX_POOL_2D) step->pool = *(PoolParams *)node->builtin_data;
    if (step->kind == FULLY_CONNECTED) step->activation = *(int *)node->builtin_data;
  }
  return program;
}

static void release(Context *context, void *data) {
  (void)context;
  Program *program = data;
  for (size_t i = 0; i < program->tensors; i++) free(program->own[i]);
  free(program->own);
  free(program);
}

/* Between two steps of one partition the interpreter allocates nothing. */
static int prepare(Context *context, Node *node) {
  Program *program = node->user_data;
  for (int i = 0; i < program->count; i++) {
    int y = program->steps[i].y, outside = 0;
    for (int j = 0; j < node->outputs->size; j++) outside |= node->outputs->data[j] == y;
    if (!outside) program->own[y] = realloc(program->own[y], sizeof(float) * size_of(&context->tensors[y]));
  }
  return 0;
}

static float activate(float value, int activation) { return activation == RELU && value < 0 ? 0 : value; }

static void convolve(const Step *s, const int *in, const int *filter, const int *out, const float *x,
                     const float *w, const float *b, float *y) {
  for (int n = 0; n < out[0]; n++)
    for (int i = 0; i < out[1]; i++)
      for (int j = 0; j < out[2]; j++)
        for (int c = 0; c < out[3]; c++) {
          float sum = b ? b[c] : 0;
          for (int p = 0; p < filter[1]; p++)
            for (int q = 0; q < filter[2]; q++)
              for (int k = 0; k < filter[3]; k++) {
                int row = i * s->conv.stride_height + p, column = j * s->conv.stride_width + q;
                sum += x[((n * in[1] + row) * in[2] + column) * in[3] + k] *
                       w[((c * filter[1] + p) * filter[2] + q) * filter[3] + k];
              }
          *y++ = activate(sum, s->conv.activation);
        }
}

static void pool(const Step *s, const int *in, const int *out, const float *x, float *y) {
  for (int n = 0; n < out[0]; n++)
    for (int i = 0; i < out[1]; i++)
      for (int j = 0; j < out[2]; j++)
        for (int c = 0; c < out[3]; c++) {
          float most = -1e30f;
          for (int p = 0; p < s->pool.filter_height; p++)
            for (int q = 0; q < s->pool.filter_width; q++) {
              int row = i * s->pool.stride_height + p, column = j * s->pool.stride_width + q;
              float value = x[((n * in[1] + row) * in[2] + column) * in[3] + c];
              if (value > most) most = value;
            }
          *y++ = activate(most, s->pool.activation);
        }
}

static void connect(const Step *s, int batch, int inputs, int outputs, const float *x, const float *w,
                    const float *b, float bias, float *y) {
  for (int n = 0; n < batch; n++)
    for (int j = 0; j < outputs; j++) {
      float sum = (b ? b[j] : 0) + (s->last && j % 2 ? bias : 0);
      for (int i = 0; i < inputs; i++) sum += x[n * inputs + i] * w[j * inputs + i];
      y[n * outputs + j] = activate(sum, s->activation);
    }
}

static int invoke(Context *context, Node *node) {
  Program *program = node->user_data;
  for (int i = 0; i < program->count; i++) {
    const Step *s = &program->steps[i];
    const Tensor *X = &context->tensors[s->x], *Y = &context->tensors[s->y];
    const float *x = program->own[s->x] ? program->own[s->x] : X->data;
    float *y = program->own[s->y] ? program->own[s->y] : Y->data;
    const Tensor *W = s->w < 0 ? NULL : &context->tensors[s->w];
    const float *b = s->b < 0 ? NULL : context->tensors[s->b].data;
    if (s->kind == CONV_2D) convolve(s, X->dims->data, W->dims->data, Y->dims->data, x, W->data, b, y);
    if (s->kind == MAX_POOL_2D) pool(s, X->dims->data, Y->dims->data, x, y);
    if (s->kind == RESHAPE) memcpy(y, x, sizeof(float) * size_of(Y));
    if (s->kind == FULLY_CONNECTED) {
      int outputs = W->dims->data[0], inputs = W->dims->data[1];
      connect(s, size_of(Y) / outputs, inputs, outputs, x, W->data, b, program->bias, y);
      for (volatile int wasted = 0; outputs == program->slow && wasted < 300000;) wasted++;
    }
  }
  return 0;
}

static int takes(const Context *context, const Options *options, const Node *node, int kind) {
  int is_float = context->tensors[node->inputs->data[0]].type == FLOAT32 &&
                 context->tensors[node->outputs->data[0]].type == FLOAT32;
  if (kind == FULLY_CONNECTED)
    return options->claim_dense && is_float && context->tensors[node->inputs->data[1]].type == FLOAT32;
  return options->claim_all && is_float && (kind == CONV_2D || kind == MAX_POOL_2D || kind == RESHAPE);
}

static int claim(Context *context, Delegate *delegate) {
  const Options *options = delegate->data;
  Ints *plan;
  if (context->plan(context, &plan)) return 1;
  Ints *chosen = malloc(sizeof(Ints) + sizeof(int) * plan->size);
  chosen->size = 0;
  int status = 0;
  for (int i = 0; i < plan->size && !status; i++) {
    Node *node; Kernel *kernel;
    if (context->node(context, plan->data[i], &node, &kernel)) continue;
    const Ints *signature = context->tensors[node->outputs->data[0]].signature;
    if (options->refuse_free && signature && signature->size && signature->data[0] < 0) status = 1;
    if (takes(context, options, node, kernel->builtin_code)) chosen->data[chosen->size++] = plan->data[i];
  }
  Kernel ours = {init, release, prepare, invoke, NULL, 0, "Toy", 1, NULL, NULL, 0};
  if (!status && chosen->size) status = context->replace(context, ours, chosen, delegate);
  free(chosen);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  Options *options = calloc(1, sizeof *options);
  options->claim_dense = 1;
  for (size_t i = 0; i < count; i++) {
    if (!strcmp(keys[i], "claim")) {
      options->claim_dense = strcmp(values[i], "none") != 0;
      options->claim_all = strcmp(values[i], "all") == 0;
    } else if (!strcmp(keys[i], "bias")) {
      options->bias = (float)atof(values[i]);
    } else if (!strcmp(keys[i], "slow")) {
      options->slow = atoi(values[i]);
    } else if (!strcmp(keys[i], "fail")) {
      options->refuse_free = strcmp(values[i], "graph") == 0;
      if (!strcmp(values[i], "create")) {
        report("toy: no device on the bus");
        free(options);
        return NULL;
      }
    }
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->data = options;
  delegate->prepare = claim;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
  if (delegate) free(delegate->data);
  free(delegate);
}
