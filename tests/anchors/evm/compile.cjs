// Compiles AuditAnchor.sol offline and writes what is shipped beside it:
//
//     node tests/anchors/evm/compile.cjs > auditlog/anchors/evm/AuditAnchor.json
//
// A test does the same and compares the bytes.
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const folder = path.join(__dirname, "..", "..", "..", "auditlog", "anchors", "evm");
const content = fs.readFileSync(path.join(folder, "AuditAnchor.sol"), "utf8");
const settings = {
  evmVersion: "paris",
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  optimizer: { enabled: true, runs: 10000 },
};
const selection = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"];
const input = {
  language: "Solidity",
  sources: { "AuditAnchor.sol": { content } },
  settings: { ...settings, outputSelection: { "*": { "*": selection } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
for (const error of output.errors || []) console.error(error.formattedMessage);
if (output.errors) process.exit(1); // warnings, too
const made = output.contracts["AuditAnchor.sol"].AuditAnchor;
const slots = made.storageLayout.storage.map(({ label, slot }) => [label, Number(slot)]);
const shipped = {
  abi: made.abi,
  bytecode: "0x" + made.evm.bytecode.object,
  compiler: solc.version().replace(/\.Emscripten.*/, ""),
  runtime: "0x" + made.evm.deployedBytecode.object,
  settings,
  slots: Object.fromEntries(slots),
};
process.stdout.write(JSON.stringify(shipped, null, 1) + "\n");
