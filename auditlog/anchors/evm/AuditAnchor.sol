// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What logs said about themselves, kept where no operator can take it back.
/// @notice Nobody owns this contract, nothing in it can be changed or stopped, it holds
/// no money. All state stands under the address that wrote it, so nobody can write, or
/// occupy beforehand, what belongs to another. Which addresses speak for a log is said
/// elsewhere, by those who verify it.
contract AuditAnchor {
    /// @notice The newest that a sender said of an origin.
    struct Head {
        /// Entries in the tree; zero where nothing was said yet.
        uint64 size;
        /// Seconds since the epoch, of the block in which it was said.
        uint64 time;
        /// Whether each step has to be proven from here on.
        bool strict;
    }

    /// @notice sender => origin => head. Storage slot 0.
    mapping(address => mapping(bytes32 => Head)) public head;

    /// @notice sender => origin => size => root, each written once. Storage slot 1.
    /// @dev An empty slot, proven at a later block, shows that no root of that size was
    /// anchored until then.
    mapping(address => mapping(bytes32 => mapping(uint64 => bytes32))) public rootAt;

    /// @notice A digest existed when this was mined.
    event Batch(address indexed sender, bytes32 indexed digest);

    /// @notice A root became the head of an origin.
    event Anchored(
        address indexed sender,
        bytes32 indexed origin,
        uint64 indexed size,
        bytes32 root
    );

    /// @notice Size or root is zero.
    error Empty();
    /// @notice A smaller tree than the head's, of a size that was never anchored.
    error Shrinking(uint64 head, uint64 size);
    /// @notice Another root was anchored for this size.
    error SplitView(uint64 size, bytes32 anchored);
    /// @notice The origin was advanced before: only `advance` moves its head.
    error ProofNeeded();
    /// @notice The proof does not lead from the head to this tree.
    error Inconsistent(uint64 head, uint64 size);

    /// @notice Fix a digest in time. Only an event; nothing is stored, nothing told.
    function batch(bytes32 digest) external {
        emit Batch(msg.sender, digest);
    }

    /// @notice Make a tree the head of an origin, unproven: sizes never shrink, and a
    /// size never gets a second root. Again the same is no error.
    /// @param origin SHA-256 of the log's origin.
    /// @param size Entries in the tree.
    /// @param root Its root.
    function anchor(bytes32 origin, uint64 size, bytes32 root) external {
        if (head[msg.sender][origin].strict) revert ProofNeeded();
        if (!_known(origin, size, root)) _move(origin, size, root, false);
    }

    /// @notice Make a tree the head of an origin if it extends the head before it, and
    /// ask for such a proof for ever after: history cannot be rewritten any more.
    /// Again the same is no error.
    /// @param origin SHA-256 of the log's origin.
    /// @param size Entries in the tree.
    /// @param root Its root.
    /// @param proof RFC 9162 consistency proof from the head; empty for the first tree.
    function advance(
        bytes32 origin,
        uint64 size,
        bytes32 root,
        bytes32[] calldata proof
    ) external {
        Head storage current = head[msg.sender][origin];
        if (_known(origin, size, root)) {
            if (!current.strict) current.strict = true;
            return;
        }
        uint64 from = current.size;
        if (from == 0) {
            if (proof.length != 0) revert Inconsistent(from, size);
        } else if (from < size) {
            bytes32 old = rootAt[msg.sender][origin][from];
            if (!consistent(from, old, size, root, proof)) revert Inconsistent(from, size);
        } // else `_move` refuses
        _move(origin, size, root, true);
    }

    /// @notice Whether a proof shows that one tree is a prefix of another
    /// (RFC 9162 section 2.1.4.2).
    /// @dev Equal sizes need equal roots and no proof. Ends after 64 hashes at most.
    function consistent(
        uint64 oldSize,
        bytes32 oldRoot,
        uint64 newSize,
        bytes32 newRoot,
        bytes32[] calldata proof
    ) public pure returns (bool) {
        if (oldSize == newSize) return oldRoot == newRoot && proof.length == 0;
        if (oldSize == 0 || oldSize > newSize || proof.length == 0) return false;
        uint64 fn = oldSize - 1; // step 3: the last old leaf, and the last new one,
        uint64 sn = newSize - 1;
        while (fn & 1 == 1) {
            fn >>= 1; // step 4: up to the largest old subtree that it ends
            sn >>= 1;
        }
        // Step 2: if the old tree is one complete subtree, its root is the first node.
        uint256 next = fn == 0 ? 0 : 1;
        bytes32 fr = fn == 0 ? oldRoot : proof[0];
        bytes32 sr = fr; // step 5
        for (; next < proof.length; ++next) {
            if (sn == 0) return false; // step 6: the proof is too long
            bytes32 node = proof[next];
            if (fn & 1 == 1 || fn == sn) {
                fr = _hash(node, fr);
                sr = _hash(node, sr);
                while (fn != 0 && fn & 1 == 0) {
                    fn >>= 1;
                    sn >>= 1;
                }
            } else {
                sr = _hash(sr, node);
            }
            fn >>= 1;
            sn >>= 1;
        }
        return sn == 0 && fr == oldRoot && sr == newRoot; // step 7
    }

    /// @dev Whether exactly this was anchored before; reverts where another root was.
    function _known(
        bytes32 origin,
        uint64 size,
        bytes32 root
    ) private view returns (bool) {
        if (size == 0 || root == 0) revert Empty();
        bytes32 anchored = rootAt[msg.sender][origin][size];
        if (anchored != 0 && anchored != root) revert SplitView(size, anchored);
        return anchored == root;
    }

    function _move(bytes32 origin, uint64 size, bytes32 root, bool strict) private {
        uint64 from = head[msg.sender][origin].size;
        if (size < from) revert Shrinking(from, size);
        rootAt[msg.sender][origin][size] = root;
        head[msg.sender][origin] = Head(size, uint64(block.timestamp), strict);
        emit Anchored(msg.sender, origin, size, root);
    }

    /// @dev RFC 9162 section 2.1.1: the hash of an inner node.
    function _hash(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x01), left, right));
    }
}
