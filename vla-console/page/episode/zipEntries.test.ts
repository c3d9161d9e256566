import assert from "node:assert/strict";
import { test } from "node:test";
import { zipEntries } from "./zipEntries";

/** Made by Python's zipfile. */
const ZIP =
  "UEsDBBQAAAAAAIkWfV0YUNrQCQAAAAkAAAAPAAAAcm9ib3Qvc2NlbmUueG1sPG11am9jby8+UEsDBBQAAAgAAIkWfV" +
  "2EO2RrAQAAAAEAAAARAAAAcm9ib3QvZ3LDtsOfZS5vYmp2UEsBAhQDFAAAAAAAiRZ9XRhQ2tAJAAAACQAAAA8AAAAA" +
  "AAAAAAAAAIABAAAAAHJvYm90L3NjZW5lLnhtbFBLAQIUAxQAAAgAAIkWfV2EO2RrAQAAAAEAAAARAAAAAAAAAAAAAA" +
  "CAATYAAAByb2JvdC9ncsO2w59lLm9ialBLBQYAAAAAAgACAHwAAABmAAAAAAA=";

const bytesOf = (base64: string) => Uint8Array.from(Buffer.from(base64, "base64")).buffer;

test("a zip's files are listed by name", () => {
  assert.deepEqual(zipEntries(bytesOf(ZIP)), ["robot/scene.xml", "robot/größe.obj"]);
});

test("what is not a zip has no files, also where it is cut or its offsets lead nowhere", () => {
  const zip = Buffer.from(ZIP, "base64");
  const astray = Uint8Array.from(zip);
  astray.set([0xff, 0xff, 0xff, 0x7f], astray.length - 6);
  for (const bytes of [new Uint8Array(), new Uint8Array(5), new Uint8Array(zip.subarray(0, 60)), astray]) {
    assert.deepEqual(zipEntries(Uint8Array.from(bytes).buffer), []);
  }
});
