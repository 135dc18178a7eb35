// Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
// Score a picture with an exported model: anomalyclip_score EXPORTED/model.onnx PICTURE.ppm [MAP.pgm]
// The model is a model.onnx or an openvino_model.xml that `anomalyclip export` has written. All settings are read from
// the anomalyclip.json beside it, where `anomalyclip calibrate` changes the threshold.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <numeric>
#include <openvino/openvino.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
    size_t height, width;
    std::vector<uint8_t> pixels;  // RGB, row by row
};

Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    size_t width = 0, height = 0, maximum = 0;
    file >> magic >> width >> height >> maximum;
    file.get();  // the one blank before the pixels
    const size_t most = std::numeric_limits<int32_t>::max() / 3;
    if (!file || magic != "P6" || maximum != 255 || !width || !height || width > most / height)
        throw std::runtime_error(path + " is not a binary PPM (P6) with 8 bits per channel");
    Picture picture{height, width, std::vector<uint8_t>(height * width * 3)};
    if (!file.read(reinterpret_cast<char*>(picture.pixels.data()), picture.pixels.size()))
        throw std::runtime_error(path + " ends before its last pixel");
    return picture;
}

double cubic(double x) {  // Pillow's BICUBIC
    const double a = -0.5;
    x = std::abs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// Resize the width as Pillow does, antialias included, and swap rows and columns: two calls resize a picture.
Picture resize_width(const Picture& input, size_t width) {
    const int precision = 22;  // bits behind the point of the integer weights
    const double scale = static_cast<double>(input.width) / width, stretch = std::max(scale, 1.0);
    Picture output{width, input.height, std::vector<uint8_t>(width * input.height * 3)};
    for (size_t x = 0; x < width; ++x) {
        const double centre = (x + 0.5) * scale;
        const int first = std::max(static_cast<int>(centre - 2 * stretch + 0.5), 0);
        const int last = std::min(static_cast<int>(centre + 2 * stretch + 0.5), static_cast<int>(input.width));
        std::vector<double> weights;
        for (int column = first; column < last; ++column) weights.push_back(cubic((column - centre + 0.5) / stretch));
        const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
        std::vector<int> rounded;
        for (double weight : weights)
            rounded.push_back(static_cast<int>(weight / sum * (1 << precision) + (weight < 0 ? -0.5 : 0.5)));
        for (size_t y = 0; y < input.height; ++y)
            for (size_t channel = 0; channel < 3; ++channel) {
                int64_t total = int64_t{1} << (precision - 1);  // rounds to nearest
                size_t place = (y * input.width + first) * 3 + channel;
                for (size_t index = 0; index < rounded.size(); ++index, place += 3)
                    total += int64_t{rounded[index]} * input.pixels[place];
                output.pixels[(x * input.height + y) * 3 + channel] = std::clamp<int64_t>(total >> precision, 0, 255);
            }
    }
    return output;
}

// Read the numbers of a list in JSON, such as "mean": [0.48, 0.46, 0.41].
std::vector<float> read_list(const std::string& json, const std::string& name) {
    const size_t begin = json.find('[', json.find('"' + name + '"'));
    if (begin == std::string::npos) throw std::runtime_error("anomalyclip.json does not say the " + name);
    std::string text = json.substr(begin + 1, json.find(']', begin) - begin - 1);
    std::replace(text.begin(), text.end(), ',', ' ');
    std::istringstream stream(text);
    return {std::istream_iterator<float>(stream), {}};
}

// Read a number or a quoted text in JSON, such as "threshold": 0.5.
std::string read_value(const std::string& json, const std::string& name, size_t from = 0) {
    const size_t key = json.find('"' + name + '"', from);
    if (key == std::string::npos) throw std::runtime_error("anomalyclip.json does not say the " + name);
    const size_t begin = json.find_first_not_of(": ", key + name.size() + 2);
    return json.substr(begin, json.find_first_of(",}\n", begin) - begin);
}

void score(const std::string& model_path, const std::string& picture_path, const std::string& map_path) {
    if (!std::ifstream(model_path)) throw std::runtime_error(model_path + " cannot be opened");
    const auto description_path = std::filesystem::path(model_path).replace_filename("anomalyclip.json");
    std::ifstream description(description_path);
    if (!description) throw std::runtime_error(description_path.string() + " cannot be opened");
    const std::string json{std::istreambuf_iterator<char>(description), {}};
    if (read_value(json, "input") != "\"pixel_values\"")
        throw std::runtime_error("export the model without preprocessing");
    if (read_value(json, "image_score") != "\"paper\"")
        throw std::runtime_error("this program knows the paper's image score only");
    const auto mean = read_list(json, "mean"), std = read_list(json, "std"), size = read_list(json, "size");
    const size_t height = size.at(0), width = size.at(1);

    const Picture picture = resize_width(resize_width(read_ppm(picture_path), width), height);
    ov::Tensor pixel_values(ov::element::f32, {1, 3, height, width});
    for (size_t channel = 0; channel < 3; ++channel)
        for (size_t y = 0; y < height; ++y)
            for (size_t x = 0; x < width; ++x)
                pixel_values.data<float>()[(channel * height + y) * width + x] =
                    (picture.pixels[(y * width + x) * 3 + channel] / 255.0f - mean.at(channel)) / std.at(channel);

    // OpenVINO by itself computes in bfloat16 on processors that can.
    ov::Core core;
    auto compiled = core.compile_model(core.read_model(model_path), "CPU",
                                       ov::hint::inference_precision(ov::element::f32));
    auto request = compiled.create_infer_request();
    request.set_tensor("pixel_values", pixel_values);
    request.infer();
    const float value = request.get_tensor("image_scores").data<float>()[0];
    const size_t calibration = json.find("\"calibration\": {");  // its threshold is the one that counts
    const size_t from = calibration == std::string::npos ? 0 : calibration;
    const bool is_anomalous = value >= std::stof(read_value(json, "threshold", from));
    std::printf("%.6f %s %s\n", value, is_anomalous ? "anomalous" : "normal", picture_path.c_str());

    if (map_path.empty()) return;
    const float maximum = std::stof(read_value(json, "map_maximum"));
    const float* map = request.get_tensor("anomaly_maps").data<float>();
    std::ofstream file(map_path, std::ios::binary);
    file << "P5\n" << width << " " << height << "\n255\n";  // at the model's size; 255 stands for map_maximum
    for (size_t place = 0; place < height * width; ++place)
        file.put(static_cast<char>(std::lround(255 * std::clamp(map[place] / maximum, 0.0f, 1.0f))));
    if (!file.flush()) throw std::runtime_error(map_path + " cannot be written");
}

int main(int count, char** arguments) {
    if (count < 3 || count > 4) {
        std::cerr << "usage: anomalyclip_score MODEL.onnx PICTURE.ppm [MAP.pgm]\n";
        return 2;
    }
    try {
        score(arguments[1], arguments[2], count > 3 ? arguments[3] : "");
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
