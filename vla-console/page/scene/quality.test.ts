import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseQuality } from "./quality";

test("software WebGL gets the cheap view, a GPU the beautiful one", () => {
  assert.equal(
    chooseQuality("auto", "ANGLE (Google, Vulkan 1.3.0 (SwiftShader Device (Subzero)), SwiftShader driver)"),
    "low",
  );
  assert.equal(chooseQuality("auto", "llvmpipe (LLVM 15.0.6, 256 bits)"), "low");
  assert.equal(chooseQuality("auto", "ANGLE (NVIDIA, NVIDIA GeForce RTX 3060, OpenGL 4.6)"), "high");
});

test("a quality that is asked for is given", () => {
  assert.equal(chooseQuality("high", "SwiftShader"), "high");
  assert.equal(chooseQuality("low", "Apple M2"), "low");
});
