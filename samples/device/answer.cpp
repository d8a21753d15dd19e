// Ask a bundle through onnxruntime-genai's C interface: answer BUNDLE "PROMPT" [TOKENS] [--ids]
//
// With --ids the answer's token ids are printed instead of its text, as a JSON list.
//
// The Python wheel carries the library but not its header, so the functions used here are declared below; with a
// release of onnxruntime-genai include "ort_genai_c.h" instead. To build against the wheels of a virtual environment:
//   S=$(python -c 'import site; print(site.getsitepackages()[0])')
//   g++ -std=c++17 answer.cpp -o answer -L$S/onnxruntime_genai -l:libonnxruntime-genai.so \
//     -Wl,-rpath,$S/onnxruntime_genai -Wl,--allow-shlib-undefined
//   ln -sf $S/onnxruntime/capi/libonnxruntime.so.1* libonnxruntime.so   # genai opens it by this name
//   LD_LIBRARY_PATH=. ./answer BUNDLE "Turn on the lamp in the kitchen."
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

extern "C" {
struct OgaResult;
struct OgaConfig;
struct OgaModel;
struct OgaTokenizer;
struct OgaTokenizerStream;
struct OgaSequences;
struct OgaGeneratorParams;
struct OgaGenerator;
const char* OgaResultGetError(const OgaResult*);
OgaResult* OgaCreateConfig(const char* folder, OgaConfig**);
OgaResult* OgaConfigOverlay(OgaConfig*, const char* json);
OgaResult* OgaCreateModelFromConfig(const OgaConfig*, OgaModel**);
OgaResult* OgaCreateTokenizer(const OgaModel*, OgaTokenizer**);
OgaResult* OgaCreateTokenizerStream(const OgaTokenizer*, OgaTokenizerStream**);
OgaResult* OgaCreateSequences(OgaSequences**);
OgaResult* OgaTokenizerApplyChatTemplate(const OgaTokenizer*, const char* chat_template, const char* messages,
                                         const char* tools, bool add_generation_prompt, const char** text);
OgaResult* OgaTokenizerEncode(const OgaTokenizer*, const char* text, OgaSequences*);
OgaResult* OgaTokenizerStreamDecode(OgaTokenizerStream*, int32_t token, const char** piece);
size_t OgaSequencesGetSequenceCount(const OgaSequences*, size_t index);
OgaResult* OgaCreateGeneratorParams(const OgaModel*, OgaGeneratorParams**);
OgaResult* OgaGeneratorParamsSetSearchNumber(OgaGeneratorParams*, const char* name, double value);
OgaResult* OgaGeneratorParamsSetSearchBool(OgaGeneratorParams*, const char* name, bool value);
OgaResult* OgaCreateGenerator(const OgaModel*, const OgaGeneratorParams*, OgaGenerator**);
OgaResult* OgaGenerator_AppendTokenSequences(OgaGenerator*, const OgaSequences*);
OgaResult* OgaGenerator_GenerateNextToken(OgaGenerator*);
bool OgaGenerator_IsDone(OgaGenerator*);
OgaResult* OgaGenerator_GetNextTokens(const OgaGenerator*, const int32_t** tokens, size_t* count);
void OgaDestroyString(const char*);
void OgaDestroyGenerator(OgaGenerator*);
void OgaDestroyGeneratorParams(OgaGeneratorParams*);
void OgaDestroySequences(OgaSequences*);
void OgaDestroyTokenizerStream(OgaTokenizerStream*);
void OgaDestroyTokenizer(OgaTokenizer*);
void OgaDestroyModel(OgaModel*);
void OgaDestroyConfig(OgaConfig*);
void OgaShutdown();
}

// Every call returns null, or what went wrong.
static void check(OgaResult* result) {
  if (result == nullptr) return;
  std::fprintf(stderr, "answer: %s\n", OgaResultGetError(result));
  std::exit(1);
}

static std::string quoted(const std::string& text) {
  std::string json = "\"";
  for (unsigned char c : text) {
    char escape[8];
    if (c == '"' || c == '\\') {
      json += '\\';
      json += static_cast<char>(c);
    } else if (c < 0x20) {
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      json += escape;
    } else {
      json += static_cast<char>(c);
    }
  }
  return json + "\"";
}

// One thread for each core that this process may use; onnxruntime-genai by itself takes half of the processors.
static unsigned threads() {
  std::ifstream smt("/sys/devices/system/cpu/smt/active");
  int active = 0;
  smt >> active;
  return std::max(1u, std::thread::hardware_concurrency() / (active == 1 ? 2 : 1));
}

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: answer BUNDLE PROMPT [TOKENS] [--ids]\n");
    return 2;
  }
  // Both libraries report to their makers unless this is set before their first call.
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  OgaConfig* config;
  OgaModel* model;
  OgaTokenizer* tokenizer;
  OgaTokenizerStream* spell;
  OgaSequences* prompt;
  OgaGeneratorParams* settings;
  OgaGenerator* generator;
  const std::string options = "{\"model\": {\"decoder\": {\"session_options\": {\"intra_op_num_threads\": " +
                              std::to_string(threads()) + "}}}}";
  check(OgaCreateConfig(argv[1], &config));
  check(OgaConfigOverlay(config, options.c_str()));
  check(OgaCreateModelFromConfig(config, &model));
  check(OgaCreateTokenizer(model, &tokenizer));
  check(OgaCreateTokenizerStream(tokenizer, &spell));

  const std::string messages = "[{\"role\": \"user\", \"content\": " + quoted(argv[2]) + "}]";
  const char* text;
  check(OgaTokenizerApplyChatTemplate(tokenizer, nullptr, messages.c_str(), nullptr, true, &text));
  check(OgaCreateSequences(&prompt));
  check(OgaTokenizerEncode(tokenizer, text, prompt));
  OgaDestroyString(text);

  const double tokens = argc > 3 ? std::atoi(argv[3]) : 256;
  check(OgaCreateGeneratorParams(model, &settings));
  check(OgaGeneratorParamsSetSearchBool(settings, "do_sample", false));
  check(OgaGeneratorParamsSetSearchNumber(settings, "max_length",
                                          OgaSequencesGetSequenceCount(prompt, 0) + tokens));
  check(OgaCreateGenerator(model, settings, &generator));
  check(OgaGenerator_AppendTokenSequences(generator, prompt));
  const bool ids = argc > 4 && std::strcmp(argv[4], "--ids") == 0;
  const char* separator = "[";
  while (!OgaGenerator_IsDone(generator)) {
    check(OgaGenerator_GenerateNextToken(generator));
    const int32_t* newest;
    size_t count;
    check(OgaGenerator_GetNextTokens(generator, &newest, &count));
    if (ids) {
      std::printf("%s%d", separator, newest[0]);
      separator = ", ";
    } else {
      const char* piece;
      check(OgaTokenizerStreamDecode(spell, newest[0], &piece));
      std::fputs(piece, stdout);
    }
    std::fflush(stdout);
  }
  std::puts(ids ? "]" : "");

  OgaDestroyGenerator(generator);
  OgaDestroyGeneratorParams(settings);
  OgaDestroySequences(prompt);
  OgaDestroyTokenizerStream(spell);
  OgaDestroyTokenizer(tokenizer);
  OgaDestroyModel(model);
  OgaDestroyConfig(config);
  OgaShutdown();
}
